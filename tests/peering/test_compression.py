import gzip
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from livesync.errors import BodyTooLarge, BodyUnreadable
from livesync.peering.compression import ENCODINGS, choose, pack, unpack


@given(st.binary(max_size=5000), st.sampled_from(ENCODINGS))
def test_what_is_packed_is_unpacked_the_same(body, encoding):
    assert unpack(pack(body, encoding), encoding, 5000) == body


@pytest.mark.parametrize("encoding", ["", "identity", *ENCODINGS])
def test_a_body_of_just_the_limit_is_taken_and_one_more_byte_is_not(encoding):
    def packed(body):
        return pack(body, encoding) if encoding in ENCODINGS else body

    assert len(unpack(packed(bytes(1000)), encoding, 1000)) == 1000
    with pytest.raises(BodyTooLarge, match="more than 1,000 bytes"):
        unpack(packed(bytes(1001)), encoding, 1000)


def stream(body):
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    return packer.compress(body) + packer.flush()


BOMBS = {
    "zstd": lambda: zstandard.ZstdCompressor(level=19).compress(bytes(200_000_000)),
    "zstd that does not say how much it is": lambda: stream(bytes(200_000_000)),
    "gzip": lambda: gzip.compress(bytes(200_000_000), 9),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory(name):
    bomb = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            unpack(bomb, name.partition(" ")[0], 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_body_without_its_size_is_unpacked_too():
    assert unpack(stream(b"abc" * 1000), "zstd", 3000) == b"abc" * 1000


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_breaks_off_goes_on_or_is_something_else_is_refused(encoding):
    whole = pack(b"some text that is packed" * 50, encoding)

    for broken in (whole[:-1], whole[:5], b"", whole + b"x", whole + whole, b"{}", b"\0" * 100):
        with pytest.raises(BodyUnreadable):
            unpack(broken, encoding, 10_000)


def test_an_encoding_that_does_not_exist_is_a_mistake():
    with pytest.raises(ValueError, match="there is no encoding 'br'"):
        pack(b"", "br")
    with pytest.raises(ValueError, match="there is no encoding 'br'"):
        unpack(b"", "br", 10)


@pytest.mark.parametrize(
    ("accepted", "usable", "chosen"),
    [
        ("gzip, zstd", ENCODINGS, "zstd"),
        ("gzip, zstd", ("gzip",), "gzip"),
        ("zstd;q=0, gzip", ENCODINGS, "gzip"),
        ("*", ENCODINGS, "zstd"),
        ("*, zstd;q=0.0", ENCODINGS, "gzip"),
        ("br", ENCODINGS, ""),
        ("", ENCODINGS, ""),
        (None, ENCODINGS, ""),
        ("gzip", (), ""),
    ],
)
def test_the_answer_is_packed_as_the_client_accepts(accepted, usable, chosen):
    assert choose(accepted, usable) == chosen
