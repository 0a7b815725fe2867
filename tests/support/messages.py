"""A signed request, and what verifies it."""

from __future__ import annotations

from support.trust import NOW, key

from livesync.peering.signatures import sign_request, verify_request
from livesync.peering.wire import SEQUENCE, SESSION

ALICE, BOB = key("alice"), key("bob")
KEYS = {"alice": ALICE.public, "bob": BOB.public}
HEADERS = {SESSION: "a" * 32, SEQUENCE: "7", "Content-Type": "application/json"}
TARGET = "/sync/peer/v1/buffers?number=1"
BODY = b'{"items": []}'


def request(method="POST", target=TARGET, headers=HEADERS, body=BODY, private=ALICE, name="alice", now=NOW):
    return {**headers, **sign_request(method, target, headers, body, private, name, now)}


def verified(headers, method="POST", target=TARGET, body=BODY, now=NOW, keys=KEYS):
    return verify_request(method, target, headers, body, keys.get, now)
