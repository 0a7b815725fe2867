import logging
from collections import Counter
from contextlib import ExitStack

import pytest
from support.peer_caller import Caller
from support.peer_world import World

from livesync.peering import wire
from livesync.peering.keys import PrivateKey


@pytest.fixture
def world(tmp_path):
    with ExitStack() as stack:
        yield World(stack, tmp_path)


@pytest.fixture
def logged(world, caplog, monkeypatch):
    """Makes sure that whatever was refused is in the log, once, and no secret is; gives the codes."""
    caplog.set_level(logging.DEBUG)
    codes, secrets = [], {world.key, world.root_key}
    send = Caller._send

    def noted(caller, method, target, data, headers):
        answer = send(caller, method, target, data, headers)
        codes.extend(filter(None, [answer.code]))
        secrets.add(caller.key)
        secrets.update(headers[name] for name in ("Authorization", "Signature") if headers.get(name))
        return answer

    monkeypatch.setattr(Caller, "_send", noted)
    yield codes
    records = caplog.get_records("call")
    said = [
        each
        for each in records
        if each.name == "livesync.peerserver.serving" and each.levelno >= logging.INFO
    ]
    assert Counter(each.args[2] for each in said) == Counter(codes)
    for record in said:
        is_warning = wire.CODES[record.args[2]][0] in (401, 403, 429)
        assert record.levelno == (logging.WARNING if is_warning else logging.INFO)
        assert "\n" not in record.getMessage()
    text = "\n".join(record.getMessage() for record in records)
    for secret in secrets:
        assert (secret.seal().split()[-1] if isinstance(secret, PrivateKey) else secret) not in text
