"""Where private keys lie: apart from the database, readable by their owner only."""

import os
import stat

import pytest
from support.trust import key

from livesync.errors import KeyUnusable, UsageError
from livesync.peering.keyring import KeyRing, open_keyring
from livesync.peering.keys import from_text


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_a_key_is_found_again_by_another_process(tmp_path, passphrase):
    made = KeyRing(tmp_path / "keys", passphrase).generate()

    ring = KeyRing(tmp_path / "keys", passphrase)

    assert ring.has(made.public)
    assert ring.get(made.public).public == made.public
    assert ring.get(made.public) is ring.get(made.public)
    assert ring.is_encrypted(made.public) == (passphrase is not None)
    assert not ring.has(key("other").public)


def test_only_the_owner_may_read_keys(tmp_path):
    made = KeyRing(tmp_path / "keys").generate()
    (path,) = (tmp_path / "keys").iterdir()

    assert path.name == f"{made.public.fingerprint}.key"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="others may read"):
        KeyRing(tmp_path / "keys").get(made.public)


def test_an_encrypted_key_lies_nowhere_in_the_clear(tmp_path):
    made = KeyRing(tmp_path, "correct horse").generate()
    raw = from_text(made.seal().split(" ")[-1])

    (path,) = tmp_path.iterdir()

    assert raw not in path.read_bytes()
    assert made.seal().split(" ")[-1].encode() not in path.read_bytes()
    with pytest.raises(KeyUnusable, match="LIVESYNC_PEER_PASSPHRASE"):
        KeyRing(tmp_path).get(made.public)
    with pytest.raises(KeyUnusable, match="not that of this private key"):
        KeyRing(tmp_path, "another").get(made.public)


def test_a_new_key_is_not_kept_where_what_it_is_for_fails(tmp_path):
    ring = KeyRing(tmp_path)

    def make(failure):
        with ring.new_key() as made:
            assert KeyRing(tmp_path).has(made.public)
            if failure is not None:
                raise failure
        return made

    with pytest.raises(UsageError):
        make(UsageError("no"))
    kept = make(None)

    assert ring.fingerprints() == [kept.public.fingerprint]


def test_a_key_that_is_here_is_not_written_again(tmp_path):
    one = key("one")
    KeyRing(tmp_path).add(one)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()

    KeyRing(tmp_path, "passphrase").add(one)

    assert path.read_bytes() == before


def test_a_key_under_another_ones_name_is_refused(tmp_path):
    ring, one, other = KeyRing(tmp_path), key("one"), key("other")
    ring.add(one)
    (tmp_path / f"{one.public.fingerprint}.key").rename(tmp_path / f"{other.public.fingerprint}.key")

    with pytest.raises(KeyUnusable, match="another key than its name says"):
        ring.get(other.public)
    with pytest.raises(KeyUnusable, match="is not in"):
        ring.get(one.public)


def test_what_is_no_key_is_refused(tmp_path):
    one = key("one")
    path = tmp_path / f"{one.public.fingerprint}.key"
    path.touch(mode=0o600)

    for content in (b"", b"x" * 5_000, b"\xff"):
        path.write_bytes(content)
        with pytest.raises(KeyUnusable, match="no private key"):
            KeyRing(tmp_path).get(one.public)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(KeyUnusable, match="cannot be written"):
        KeyRing(tmp_path / "file" / "keys").generate()


def test_keys_lie_beside_the_databases_file_unless_said_otherwise(tmp_path):
    uri = f"file://{tmp_path}/Data.fs?wait_timeout=3"

    assert open_keyring(uri, {}).directory == tmp_path / "Data.fs.keys"
    assert open_keyring(uri, {"LIVESYNC_PEER_KEYS": "/etc/keys"}).directory.as_posix() == "/etc/keys"
    with pytest.raises(UsageError, match="LIVESYNC_PEER_KEYS"):
        open_keyring("zeo://localhost:1", {})


def test_a_passphrase_comes_from_the_environment_or_a_file(tmp_path):
    uri, file = f"file://{tmp_path}/Data.fs", tmp_path / "passphrase"
    file.write_text("correct horse\nsecond line\n")
    made = open_keyring(uri, {"LIVESYNC_PEER_PASSPHRASE": "correct horse"}).generate()

    ring = open_keyring(uri, {"LIVESYNC_PEER_PASSPHRASE_FILE": str(file)})

    assert ring.get(made.public).public == made.public
    assert "horse" not in repr(ring)
    file.write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        open_keyring(uri, {"LIVESYNC_PEER_PASSPHRASE_FILE": str(file)})
    with pytest.raises(UsageError, match="cannot be read"):
        open_keyring(uri, {"LIVESYNC_PEER_PASSPHRASE_FILE": str(tmp_path / "none")})
