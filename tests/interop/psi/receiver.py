#!/usr/bin/env python3
"""Receives credentials as the Photosphere app does: the protocol from its description alone, with an app's oddities.

Standard library only, nothing of Kith. Announces itself each second and answers HTTPS; says every request as one JSON
line, {"method", "path", "status", "sni"?, "reused"}, and at last {"payload"}.
"""

import argparse
import hashlib
import http.server
import json
import socket
import ssl
import sys
import threading
import time

# Which habits an app has:
#   chunked    answers in chunks
#   endless    an answer ends with its connection
#   one-shot   one request a connection
#   abrupt     closes without saying so in TLS
#   late       the hash takes longer than anybody waits
#   crash      hangs up instead of an answer
#   garbage    answers with something else
HABITS = {"chunked", "endless", "one-shot", "abrupt", "late", "crash", "garbage"}


def say(**what):
    print(json.dumps(what), flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    requests = 0

    def log_message(self, *_):
        pass

    def answer(self, status, value):
        habits = self.server.habits
        body = b"<html>hello</html>" if "garbage" in habits else json.dumps(value).encode()
        say(method=self.command, path=self.path, status=status, sni=self.server.sni, reused=self.requests > 1)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if "chunked" in habits:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (1, bytes([byte])) for byte in body) + b"0\r\n\r\n"
        elif "endless" not in habits:
            self.send_header("Content-Length", str(len(body)))
        if habits & {"one-shot", "endless"}:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def admit(self):
        self.requests += 1
        server = self.server
        with server.lock:
            server.count += 1
            if server.count > 5:
                self.answer(429, {"error": "Too many requests"})
                return False
        return True

    def do_GET(self):
        if not self.admit():
            return
        if "crash" in self.server.habits:
            self.close_connection = True
            return
        if self.path != "/pairing-code-hash":
            return self.answer(404, {"error": "Not found"})
        if "late" in self.server.habits:
            time.sleep(4)
        self.answer(200, {"codeHash": self.server.code_hash})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        text = self.rfile.read(length)
        if not self.admit():
            return
        if self.path != "/share-payload":
            return self.answer(404, {"error": "Not found"})
        if self.headers["Content-Type"] != "application/json":
            return self.answer(415, {"error": "Unsupported"})
        try:
            body = json.loads(text)
        except ValueError:
            return self.answer(400, {"error": "Invalid JSON"})
        if body["codeHash"] != self.server.code_hash:
            return self.answer(403, {"error": "Invalid pairing code"})
        self.answer(200, {"success": True})
        say(payload=body["payload"])
        self.server.done.set()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, options):
        super().__init__(("0.0.0.0", 0), Handler)
        self.habits = set(options.habit)
        self.code_hash = hashlib.sha256(options.code.encode()).hexdigest()
        self.count, self.lock, self.done, self.sni = 0, threading.Lock(), threading.Event(), None
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(options.cert, options.key)
        if options.tls12:
            self.tls.maximum_version = ssl.TLSVersion.TLSv1_2
        self.tls.sni_callback = self.named

    def named(self, _socket, name, _context):
        self.sni = name

    def get_request(self):
        plain, address = self.socket.accept()
        plain.settimeout(20)
        return self.tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        say(trouble=repr(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]))

    def shutdown_request(self, request):
        if "abrupt" not in self.habits:
            try:
                request.settimeout(2)
                request.unwrap()
            except (OSError, ValueError):
                pass
        request.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--code", required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--habit", action="append", default=[], choices=sorted(HABITS))
    parser.add_argument("--tls12", action="store_true")
    parser.add_argument("--udp-port", type=int, default=54321)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    server = Server(options)
    with open(options.cert) as file:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()
    text = f"PSIE_RECV:{server.server_port}:{digest}".encode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shout = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shout.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        for address in ("255.255.255.255", "127.0.0.1"):
            try:
                shout.sendto(text, (address, options.udp_port))
            except OSError:
                pass  # No network: there is still this host.
        if server.done.wait(1):
            time.sleep(0.5)  # The answer leaves.
            return 0
    return 1


sys.exit(main())
