#!/usr/bin/env python3
"""Receives files as one of Tella's apps does: the protocol from its description alone, with that app's oddities.

Standard library only, nothing of Kith. Says first {"port", "hash", "qr"}, then every request as one JSON line, {"step",
"method", "version", "status", "tls"}; {"complaint"} where a request would have broken the app.
"""

import argparse
import hashlib
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse
import uuid

# Which habits an app has:
#   v1, v2     the versions that it speaks; another one is answered with `other`
#   cased      header names are compared with their case: Content-Length and Host
#   one-read   the whole head must come in one read
#   one-shot   one request a connection
#   strict     an unknown key, a missing one, a blank title or an empty file is a bad request
#   put, post  the only method that uploads
#   restarts   nobody listens for a moment after register
#   ends       the session is over with the last file, and its id forgotten
#   leaves     nobody listens any more after the last file
#   silent     success has no JSON in it
HABITS = {
    "ios": {"v2", "cased", "one-read", "one-shot", "put"},
    "android": {"v2", "strict", "put", "ends"},
    "desktop": {"v2", "put", "restarts", "leaves", "silent"},
    "seed": {"v1", "post", "one-shot"},
    "old-ios": {"v1", "cased", "one-read", "one-shot", "put"},
}

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
KEYS = {
    "register": {"pin", "nonce"},
    "prepare-upload": {"title", "sessionId", "files", "nonce"},
    "close-connection": {"sessionId"},
    "file": {"id", "fileName", "size", "fileType", "sha256"},
}


class Refused(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


class Complaint(Refused):
    """A request that the app could not have understood."""

    def __init__(self, why):
        super().__init__(400, why)


class App:
    def __init__(self, options):
        self.options = options
        self.habits = HABITS[options.app]
        self.lock = threading.Lock()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(options.cert, options.key)
        if options.tls12:
            self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.nonces, self.session, self.files, self.spent = set(), None, {}, set()
        self.failures = [failure.split(":") for failure in options.fail]
        self.listen(0)
        with open(options.cert) as pem:
            der = ssl.PEM_cert_to_DER_cert(pem.read())
        self.hash = hashlib.sha256(der).hexdigest()

    def tell(self, **what):
        with self.lock:
            print(json.dumps(what), flush=True)

    # ---- connections

    def listen(self, port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        self.listener, self.port = listener, listener.getsockname()[1]

    def stop_listening(self):
        # Closing alone would not wake the thread that accepts, which would take one more.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self):
        qr = {"ip_address": ["127.0.0.1"], "port": self.port, "certificate_hash": self.hash, "pin": self.options.pin}
        if "v2" in self.habits:
            qr["protocol_version"] = 2
        self.tell(port=self.port, hash=self.hash, qr=json.dumps(qr))
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                # Closed on purpose: it comes back, or not.
                time.sleep(0.05)
                continue
            threading.Thread(target=self.connection, args=(connection,), daemon=True).start()

    def connection(self, plain):
        plain.settimeout(60)
        try:
            with self.context.wrap_socket(plain, server_side=True) as secure:
                ahead = b""
                while (ahead := self.exchange(secure, ahead)) is not None:
                    pass
        except (OSError, ssl.SSLError) as error:
            # Who only looks at the certificate hangs up like this.
            self.tell(hung_up=str(error))

    def exchange(self, secure, ahead):
        """One request and its answer; what has come of the next one, or None when there is no next one."""
        data = ahead or secure.recv(65536)
        if not data:
            return None
        method, target, headers, data = self.head(secure, data)
        step = target.split("?")[0].rsplit("/", 1)[-1]
        try:
            version = self.route(target)
            for name in ("expect", "transfer-encoding"):
                if name in {header.lower() for header in headers}:
                    raise Complaint(f"{step}: {name}")
            length = self.length(headers, step)
            try:
                status, answer, data = self.answer(secure, step, method, target, length, data, version)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise Complaint(f"{step}: {error!r}") from error
        except Refused as refused:
            if isinstance(refused, Complaint):
                self.tell(complaint=str(refused))
            status, answer = refused.status, {"error": str(refused)}
            self.drop(secure)
        self.tell(step=step, method=method, target=target.split("?")[0], status=status, tls=secure.version())
        if status == 200 and step == "register" and "restarts" in self.habits:
            self.stop_listening()
        close = "one-shot" in self.habits or status >= 400
        body = b"ok" if "silent" in self.habits and step == "upload" and status == 200 else json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if status in (301, 302, 307, 308):
            head += f"Location: {self.options.location}\r\n"
        secure.sendall((head + ("Connection: close\r\n" if close else "") + "\r\n").encode() + body)
        self.after(step, status)
        return None if close or not data and self.asked_to_close(headers) else data

    def after(self, step, status):
        if status != 200:
            return
        if step == "register" and "restarts" in self.habits:
            time.sleep(0.7)
            self.listen(self.port)
        done = step == "upload" and self.files and all(file["done"] for file in self.files.values())
        if done and "leaves" in self.habits:
            self.stop_listening()
        if done and "ends" in self.habits:
            self.session = None

    def head(self, secure, data):
        while b"\r\n\r\n" not in data:
            if "one-read" in self.habits:
                self.tell(complaint=f"a head in pieces: {data[:60]!r}")
                raise OSError("a head in pieces")
            more = secure.recv(65536)
            if not more:
                raise OSError("half a head")
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        return method, target, headers, data

    def asked_to_close(self, headers):
        return {name.lower(): value.lower() for name, value in headers.items()}.get("connection") == "close"

    def length(self, headers, step):
        if "cased" in self.habits:
            for name in ("Content-Length", "Host"):
                if name not in headers:
                    raise Complaint(f"{step}: no {name} in {sorted(headers)}")
            return int(headers["Content-Length"])
        return int({name.lower(): value for name, value in headers.items()}.get("content-length", "0"))

    def body(self, secure, data, length):
        while len(data) < length:
            more = secure.recv(1 << 20)
            if not more:
                raise OSError("half a body")
            data += more
        return data[:length], data[length:]

    def drop(self, secure):
        """Reads what may still come, so that the other end sees the answer."""
        secure.settimeout(0.2)
        try:
            while secure.recv(1 << 20):
                pass
        except OSError:
            pass
        secure.settimeout(60)

    # ---- the protocol

    def route(self, target):
        match = re.fullmatch(r"/api/v(\d)/[a-z-]+", target.split("?")[0])
        if not match:
            raise Refused(404, "Not found")
        version = int(match[1])
        if f"v{version}" not in self.habits:
            raise Refused(self.options.other, "Unsupported version")
        return version

    def answer(self, secure, step, method, target, length, data, version):
        if self.fails(step):
            raise Refused(self.failed, "On purpose")
        if step == "upload":
            return self.upload(secure, method, target, length, data)
        body, data = self.body(secure, data, length)
        if method != "POST":
            raise Refused(405, "Method not allowed")
        if step == "ping":
            # The second version waits for its user.
            time.sleep(0.3 if version == 2 else 0)
            return 200, ({"senderShowHash": False} if version == 2 else {"success": True}), data
        read = json.loads(body)
        if "strict" in self.habits and set(read) != KEYS[step]:
            raise Complaint(f"{step}: keys {sorted(read)}")
        handler = {"register": self.register, "prepare-upload": self.prepare, "close-connection": self.close}[step]
        return 200, handler(read), data

    def fails(self, step):
        """Whether this request is one that fails on purpose."""
        for failure in self.failures:
            if failure[0] == step:
                self.failures.remove(failure)
                self.failed = int(failure[1])
                return True
        return False

    def nonce(self, nonce):
        """Every request has one that nobody has seen before."""
        if not UUID.fullmatch(nonce or ""):
            raise Complaint(f"nonce {nonce!r}")
        if nonce in self.nonces:
            raise Complaint("a nonce that came before")
        self.nonces.add(nonce)

    def register(self, read):
        self.nonce(read["nonce"])
        if read["pin"] != self.options.pin:
            raise Refused(401, "Invalid PIN")
        self.session = str(uuid.uuid4())
        return {"sessionId": self.session}

    def prepare(self, read):
        self.nonce(read["nonce"])
        if self.session is None or read["sessionId"] != self.session:
            raise Refused(401, "Invalid session ID")
        if not read["title"].strip():
            raise Complaint("a blank title")
        self.files = {}
        for file in read["files"]:
            if "strict" in self.habits and set(file) != KEYS["file"]:
                raise Complaint(f"file: keys {sorted(file)}")
            if not isinstance(file["size"], int) or file["size"] < 1:
                raise Complaint(f"size {file['size']}")
            if not re.fullmatch("[0-9a-f]{64}", file["sha256"]):
                raise Complaint(f"sha256 {file['sha256']}")
            if "/" in file["fileName"] or file["id"] in self.files:
                raise Complaint(f"file {file}")
            self.files[file["id"]] = {**file, "transmission": str(uuid.uuid4()).upper(), "done": False}
        files = [{"id": name, "transmissionId": file["transmission"]} for name, file in self.files.items()]
        return {"files": files}

    def upload(self, secure, method, target, length, data):
        if method.lower() not in self.habits:
            raise Refused(405, "Method not allowed")
        query = dict(urllib.parse.parse_qsl(target.split("?", 1)[1], strict_parsing=True))
        self.nonce(query["nonce"])
        if self.session is None or query["sessionId"] != self.session:
            raise Refused(401, "Invalid session ID")
        file = self.files.get(query["fileId"])
        transmission = query["transmissionId"]
        if file is None or file["transmission"] != transmission:
            raise Refused(403, "Invalid transmission ID")
        if transmission in self.spent:
            raise Complaint("a transmission that failed comes again")
        self.spent.add(transmission)
        if length != file["size"]:
            raise Complaint(f"{length} bytes instead of {file['size']}")
        body, data = self.body(secure, data, length)
        if self.fails("received"):
            raise Refused(self.failed, "On purpose")
        if hashlib.sha256(body).hexdigest() != file["sha256"]:
            raise Complaint("another sha256")
        with open(os.path.join(self.options.dir, file["fileName"]), "xb") as out:
            out.write(body)
        file["done"] = True
        return 200, {"success": True}, data

    def close(self, read):
        if self.session is None or read["sessionId"] != self.session:
            raise Refused(401, "Invalid session ID")
        self.session = None
        return {"success": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", choices=HABITS, required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--pin", default="123456")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--tls12", action="store_true")
    # How a version that is not spoken is answered.
    parser.add_argument("--other", type=int, default=404)
    # Where a redirect that --fail asks for leads.
    parser.add_argument("--location", default="")
    # STEP:STATUS, for the next request of that step, before its body is read; `received`: behind the body of an upload.
    parser.add_argument("--fail", action="append", default=[])
    App(parser.parse_args()).serve()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
