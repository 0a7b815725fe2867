"""Web applications on real databases."""

from __future__ import annotations

from typing import Any

import pytest
from support.desk import Desk
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage


@pytest.fixture(autouse=True)
def cheap_passwords(request, monkeypatch):
    """Let a login take no time, but where it is what is tested."""
    if request.path.name != "test_users.py":
        monkeypatch.setattr("livesync.web.users.SCRYPT_N", 2**4)


@pytest.fixture
def desk(memory_db, tmp_path):
    """A web application on a database in memory."""
    made = Desk(memory_db, tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_desk(tmp_path):
    """Makes web applications with settings of their own."""
    made = []

    def make(db: Any = None, **settings: Any) -> Desk:
        found = Desk(DB(DemoStorage()) if db is None else db, tmp_path, **settings)
        made.append((found, db is None))
        return found

    yield make
    for found, is_ours in made:
        found.close()
        if is_ours:
            found.db.close()
