#!/usr/bin/env python3
"""Sends files as one of Tella's apps does: the protocol from its description alone, with that app's oddities.

Standard library only, nothing of Kith. Says every answer as one JSON line, {"step", "status", "body"}; ends with 0 when
each step was answered as the app needs it to go on, with 1 and {"complaint"} otherwise.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import socket
import ssl
import sys
import uuid

# Which habits an app has:
#   upper      UUIDs in upper case
#   pretty     JSON with line breaks, blanks around colons and escaped slashes
#   shuffled   keys in any order
#   charset    "Content-Type: application/json; charset=utf-8"
#   nameless   file names without their extension
#   probes     connections that say nothing: TCP only, and TLS only to read the certificate
#   again      the PIN is mistyped first, and register sent again with the same nonce
#   close      one request a connection, "Connection: close"; otherwise one connection for everything
#   post       uploads by POST instead of PUT
#   bare       nothing that the first description does not know: no nonce but in register, no sha256, no fileType
#   strict     an answer with any other key is no answer
#   goodbye    close-connection at the end; phones do not say it
HABITS = {
    "ios": {"upper", "pretty", "shuffled", "nameless"},
    "android": {"charset", "probes", "again", "strict"},
    "desktop": {"close", "goodbye", "shuffled"},
    "seed": {"post", "bare", "close", "goodbye"},
}

MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".pdf": "application/pdf", ".txt": "text/plain"}


class Complaint(Exception):
    """The answer is not one that the app could go on with."""


def tell(**what):
    print(json.dumps(what), flush=True)


class App:
    def __init__(self, options):
        self.options = options
        self.habits = HABITS[options.app]
        self.connection = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        # Certificates are judged by their hash only.
        self.context.verify_mode = ssl.CERT_NONE
        self.context.set_alpn_protocols(["http/1.1"])
        if options.tls12:
            self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        if options.cert:
            self.context.load_cert_chain(options.cert, options.key)

    def uuid(self):
        text = str(uuid.uuid4())
        return text.upper() if "upper" in self.habits else text

    def encode(self, value):
        """An object as this app writes it."""
        if "shuffled" in self.habits:
            value = shuffled(value)
        if "pretty" in self.habits:
            text = json.dumps(value, indent=2, separators=(",", " : "), ensure_ascii=False)
            return text.replace("/", "\\/").encode()
        return json.dumps(value, separators=(",", ":")).encode()

    def connect(self):
        options = self.options
        connection = http.client.HTTPSConnection(options.host, options.port, context=self.context, timeout=60)
        connection.connect()
        shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
        if shown != options.hash:
            raise Complaint(f"certificate {shown} instead of {options.hash}")
        return connection

    def probe(self):
        """What Android does before it says anything: is somebody there, and who?"""
        address = (self.options.host, self.options.port)
        socket.create_connection(address, timeout=60).close()
        with socket.create_connection(address, timeout=60) as plain:
            with self.context.wrap_socket(plain) as secure:
                tell(step="probe", tls=secure.version())

    def ask(self, step, method, path, body, media_type):
        """One request and its answer: the status and the body."""
        if self.connection is None:
            self.connection = self.connect()
        connection = self.connection
        path = f"/api/v{self.options.version}/{path}"
        headers = {"Content-Type": media_type, "Accept": "*/*"}
        if "close" in self.habits:
            headers["Connection"] = "close"
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.getheader("Content-Length") != str(len(content)):
            raise Complaint(f"{step}: a body of another length than it says")
        if not (answer.getheader("Content-Type") or "").startswith("application/json"):
            raise Complaint(f"{step}: not JSON: {answer.getheader('Content-Type')}")
        if "close" in self.habits or answer.will_close:
            connection.close()
            self.connection = None
        tell(step=step, status=answer.status, body=json.loads(content))
        return answer.status, json.loads(content)

    def say(self, step, path, value):
        """Posts an object; the answer, which is a success."""
        media_type = "application/json; charset=utf-8" if "charset" in self.habits else "application/json"
        body = b"" if value is None else self.encode(value)
        status, answer = self.ask(step, "POST", path, body, media_type)
        if status != 200:
            raise Complaint(f"{step}: {status}")
        return answer

    def only(self, answer, *keys):
        if "strict" in self.habits and sorted(answer) != sorted(keys):
            raise Complaint(f"keys {sorted(answer)} instead of {sorted(keys)}")

    def register(self):
        value = {"pin": self.options.pin, "nonce": self.uuid()}
        if "again" in self.habits:
            wrong = f"{(int(self.options.pin) + 1) % 1000000:06}"
            status, _ = self.ask("mistyped", "POST", "register", self.encode({**value, "pin": wrong}), "application/json")
            if status != 401:
                raise Complaint(f"a wrong PIN: {status}")
        answer = self.say("register", "register", value)
        self.only(answer, "sessionId")
        return answer["sessionId"]

    def offer(self, session, paths):
        files = []
        for path in paths:
            stem, extension = os.path.splitext(os.path.basename(path))
            content = open(path, "rb").read()
            file = {"id": self.uuid(), "fileName": stem + extension, "size": len(content)}
            if "bare" not in self.habits:
                file["fileType"] = MEDIA_TYPES.get(extension, "application/octet-stream")
                file["sha256"] = hashlib.sha256(content).hexdigest()
            if "nameless" in self.habits:
                file["fileName"] = stem
                file["thumbnail"] = "iVBORw0KGgo="
            files.append((file, content))
        value = {"title": "A report / with a slash", "sessionId": session, "files": [file for file, _ in files]}
        if "bare" not in self.habits:
            value["nonce"] = self.uuid()
        answer = self.say("prepare", "prepare-upload", value)
        self.only(answer, "files")
        accepted = {}
        for one in answer["files"]:
            self.only(one, "id", "transmissionId")
            accepted[one["id"]] = one["transmissionId"]
        if set(accepted) != {file["id"] for file, _ in files}:
            raise Complaint("not every file was accepted, or under another id")
        return [(file, content, accepted[file["id"]]) for file, content in files]

    def upload(self, session, file, content, transmission):
        query = [("sessionId", session), ("fileId", file["id"]), ("transmissionId", transmission)]
        if "bare" not in self.habits:
            query.append(("nonce", self.uuid()))
        if "shuffled" in self.habits:
            random.shuffle(query)
        path = "upload?" + "&".join(f"{key}={value}" for key, value in query)
        method = "POST" if "post" in self.habits else "PUT"
        status, answer = self.ask("upload", method, path, content, "application/octet-stream")
        if status != 200 or answer != {"success": True}:
            raise Complaint(f"upload: {status}")

    def run(self, paths):
        if "probes" in self.habits:
            self.probe()
        answer = self.say("ping", "ping", None)
        if self.options.version == 1 and answer != {"success": True}:
            raise Complaint(f"ping: {answer}")
        if self.options.version == 2 and not isinstance(answer.get("senderShowHash"), bool):
            raise Complaint(f"ping: {answer}")
        session = self.register()
        for file, content, transmission in self.offer(session, paths):
            self.upload(session, file, content, transmission)
        if "goodbye" in self.habits:
            answer = self.say("close", "close-connection", {"sessionId": session})
            if answer != {"success": True}:
                raise Complaint(f"close: {answer}")


def shuffled(value):
    if isinstance(value, dict):
        items = [(key, shuffled(one)) for key, one in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(one) for one in value] if isinstance(value, list) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", choices=HABITS, required=True)
    parser.add_argument("--version", type=int, choices=(1, 2), required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pin", required=True)
    parser.add_argument("--hash", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--tls12", action="store_true")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    try:
        App(options).run(options.paths)
    except (Complaint, http.client.HTTPException, OSError, ValueError, KeyError) as complaint:
        tell(complaint=repr(complaint))
        sys.exit(1)


if __name__ == "__main__":
    main()
