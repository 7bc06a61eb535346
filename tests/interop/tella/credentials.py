"""Hooks for schemathesis: what it makes up gets past the PIN, and most of it past the session ids, so that what lies
behind them is tried, too. One request in four keeps the ids that were made up for it.

KITH_PORT and KITH_PIN say where the guest door is; KITH_CERT and KITH_KEY, what to show there in version 2.
"""

import http.client
import json
import os
import ssl
import uuid

import schemathesis

PORT, PIN = int(os.environ["KITH_PORT"]), os.environ["KITH_PIN"]


class Guest:
    """Somebody who may come in, in one version of the protocol."""

    def __init__(self, version):
        self.prefix = f"/api/v{version}/"
        self.session = None
        self.count = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.load_cert_chain(os.environ["KITH_CERT"], os.environ["KITH_KEY"])

    def post(self, path, value):
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=self.context, timeout=30)
        connection.request("POST", self.prefix + path, json.dumps(value), {"Connection": "close"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content

    def let_in(self):
        """The session, which is a live one unless somebody else is being served."""
        if self.session is None:
            status, answer = self.post("register", {"pin": PIN, "nonce": str(uuid.uuid4())})
            self.session = answer["sessionId"] if status == 200 else None
        return self.session

    def leave(self):
        if self.session is not None:
            self.post("close-connection", {"sessionId": self.session})
        self.session = None

    def may_upload(self, size):
        """A file that was offered, and the permission to upload it."""
        file = str(uuid.uuid4())
        offered = {"id": file, "fileName": "x.txt", "size": size}
        status, answer = self.post("prepare-upload", {"sessionId": self.let_in(), "files": [offered]})
        return (file, answer["files"][0]["transmissionId"]) if status == 200 else None


GUESTS = {1: Guest(1), 2: Guest(2)}


def is_id(value):
    return isinstance(value, str) and 1 <= len(value) <= 256


@schemathesis.hook
def before_call(context, case, kwargs):
    if not case.operation.path.startswith("/api/v"):
        return
    version = int(case.operation.path[6])
    guest, other = GUESTS[version], GUESTS[3 - version]
    body, query = case.body, case.query
    # Three wrong ones, and nobody would come in any more: that is what the run without these hooks is for.
    if isinstance(body, dict) and isinstance(body.get("pin"), str) and body["pin"]:
        body["pin"] = PIN
    guest.count += 1
    if guest.count % 4 == 0:
        return
    other.leave()
    if case.operation.path.endswith("register"):
        guest.leave()
    if isinstance(body, dict) and is_id(body.get("sessionId")):
        body["sessionId"] = guest.let_in() or body["sessionId"]
    ids = ("sessionId", "fileId", "transmissionId")
    if query and all(is_id(query.get(name)) for name in ids):
        size = len(body) if isinstance(body, bytes) else 0
        permission = guest.may_upload(size)
        if permission and guest.session:
            query["sessionId"], (query["fileId"], query["transmissionId"]) = guest.session, permission


@schemathesis.hook
def after_call(context, case, response):
    if not case.operation.path.startswith("/api/v"):
        return
    guest = GUESTS[int(case.operation.path[6])]
    if case.operation.path.endswith("register") and response.status_code == 200:
        guest.session = response.json()["sessionId"]
    elif response.status_code in (401, 403) or case.operation.path.endswith(("upload", "close-connection")):
        # It may be over: the next request finds out by a new one.
        guest.leave()
