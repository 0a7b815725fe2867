"""Databases that tests share: real storages, without waiting for the disk."""

from importlib import import_module

import pytest
from hypothesis import settings
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage

# How long an example takes depends on what else the machine does: that is no property of the code.
settings.register_profile("livesync", deadline=None, print_blob=True)
settings.load_profile("livesync")


@pytest.fixture
def no_fsync(monkeypatch):
    """Let FileStorage leave it to the system when its data reach the disk."""
    monkeypatch.setattr(import_module("ZODB.FileStorage.FileStorage"), "fsync", None)


@pytest.fixture
def file_db(tmp_path, no_fsync):
    """An open database in a file."""
    db = DB(FileStorage(str(tmp_path / "Data.fs")))
    yield db
    db.close()


@pytest.fixture
def memory_db():
    """An open database in memory, which resolves conflicts as the others do."""
    db = DB(DemoStorage())
    yield db
    db.close()
