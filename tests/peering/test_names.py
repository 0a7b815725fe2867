"""The public names of trust."""

import pytest

import livesync.peering


def test_all_public_names_are_there():
    for name in livesync.peering.__all__:
        assert getattr(livesync.peering, name).__name__ == name
    assert set(livesync.peering.__all__) <= set(dir(livesync.peering))


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="Passport"):
        livesync.peering.Passport  # noqa: B018 - that it is not there
