from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shelf import World


@pytest.fixture
def world(tmp_path: Path, no_fsync: None) -> Iterator[World]:
    made = World(str(tmp_path / "host.fs"))
    yield made
    made.close()
