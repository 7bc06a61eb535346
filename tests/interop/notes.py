#!/usr/bin/env python3
"""Notes that are the same on all of your devices: an app over Kith's control socket, in plain Python.

    notes.py SOCKET add TEXT | list | edit ID TEXT | rm ID | watch

In the TEXT of `edit`, {} stands for what is there now. `watch` shows what changes, here or elsewhere, and goes on where
it stopped: the place is kept in `notes.cursor`.
"""
import base64, json, pathlib, socket, sys


class Refused(Exception):
    """What kithd answers when it does not do something: a stable word."""


class Kith:
    """The control socket: JSON-RPC 2.0, one object a line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")
        self.events = []  # Those that came while an answer was awaited.

    def receive(self):
        return json.loads(next(self.lines))

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"journal": "default", **params}}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while "id" not in (answer := self.receive()):
            self.events.append(answer)
        if "error" in answer:
            raise Refused(answer["error"]["data"]["code"])
        return answer["result"]

    def changes(self):
        while True:
            event = self.events.pop(0) if self.events else self.receive()
            yield event["params"]["data"]


def put(kith, text, **params):
    body = base64.b64encode(text.encode()).decode()
    return kith.call("entries.put", body=body, meta={"app": "notes"}, **params)


def read(kith, id):
    result = kith.call("entries.get", id=id)
    return result["entry"], base64.b64decode(result["body"]).decode()


def edit(kith, id, text):
    while True:
        note, before = read(kith, id)
        if note["deleted"]:
            raise Refused("entry_not_found")
        try:
            return put(kith, text.replace("{}", before), id=id, expected=note["hash"])
        except Refused as refused:
            if str(refused) != "version_mismatch":
                raise
            # Somebody else was faster: once more, with what is there now.


def watch(kith, place=pathlib.Path("notes.cursor")):
    kith.call("entries.subscribe", cursor=place.read_text() if place.exists() else "")
    for change in kith.changes():
        show(kith, change["entry"])
        place.write_text(change["cursor"])


def show(kith, note):
    if note["deleted"]:
        print(note["id"], "(deleted)", flush=True)
    elif note["meta"].get("app") == "notes":  # Other apps have entries there, too.
        print(note["id"], read(kith, note["id"])[1], flush=True)


def main(path, command, *rest):
    kith = Kith(path)
    if command == "list":
        page = {"next": ""}
        while "next" in page:
            page = kith.call("entries.list", after=page["next"])
            for note in page["entries"]:
                show(kith, note)
    elif command == "add":
        print(put(kith, *rest)["id"])
    elif command == "rm":
        kith.call("entries.delete", id=rest[0])
    else:
        {"edit": edit, "watch": watch}[command](kith, *rest)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (Refused, OSError) as problem:
        sys.exit(f"notes: {problem}")
