#!/usr/bin/env python3
"""Sends credentials as the Photosphere app does: the protocol from its description alone, with an app's oddities.

Standard library only, nothing of Kith. Takes the first receiver that is announced; says {"announced"}, every answer as
{"status", "body", "type"}, and ends with 0 if the payload, which is its standard input, was delivered.
"""

import argparse
import hashlib
import http.client
import json
import socket
import ssl
import sys

# Which habits an app has:
#   two        a connection for each request
#   chunked    sends its body in chunks
#   polite     says goodbye in TLS
#   upper      writes the hash in capitals (and is refused)
HABITS = {"two", "chunked", "polite", "upper"}


def say(**what):
    print(json.dumps(what), flush=True)


class Connection(http.client.HTTPSConnection):
    """Pinned, and without a server name."""

    def __init__(self, address, port, pin, context):
        super().__init__(address, port, context=context, timeout=20)
        self.pin, self.tls = pin, context

    def connect(self):
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain)
        shown = hashlib.sha256(self.sock.getpeercert(binary_form=True)).hexdigest()
        if shown != self.pin:
            raise ssl.SSLError("another certificate")


def exchange(connection, habits, method, path, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    if body and "chunked" in habits:
        pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        connection.request(method, path, iter(pieces), headers, encode_chunked=True)
    else:
        connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    value = json.loads(text)
    say(status=answer.status, body=value, type=answer.headers["Content-Type"])
    return answer.status, value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--code", required=True)
    parser.add_argument("--habit", action="append", default=[], choices=sorted(HABITS))
    parser.add_argument("--tls12", action="store_true")
    parser.add_argument("--udp-port", type=int, default=54321)
    options = parser.parse_args()
    habits = set(options.habit)
    payload = json.load(sys.stdin)

    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("0.0.0.0", options.udp_port))
    ear.settimeout(60)
    while True:
        text, (address, _) = ear.recvfrom(2048)
        word, _, rest = text.decode("ascii", "replace").partition(":")
        if word == "PSIE_RECV":
            break
    port, pin = rest.split(":")
    say(announced=text.decode())
    if len(pin) != 64 or pin != pin.lower():
        return 3

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # What the app's TLS signs with: Ed25519 is not among it.
    context.set_ciphers("ECDHE+AESGCM")
    if options.tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    connection = Connection(address, int(port), pin, context)
    status, shown = exchange(connection, habits, "GET", "/pairing-code-hash")
    own = hashlib.sha256(options.code.encode()).hexdigest()
    if status != 200 or shown["codeHash"] != own:
        return 4
    if "two" in habits:
        connection.close()
        connection = Connection(address, int(port), pin, context)
    sent = own.upper() if "upper" in habits else own
    body = json.dumps({"codeHash": sent, "payload": payload}).encode()
    status, _ = exchange(connection, habits, "POST", "/share-payload", body)
    if "polite" in habits and connection.sock:
        connection.sock.unwrap()
    connection.close()
    return 0 if status == 200 else 5


sys.exit(main())
