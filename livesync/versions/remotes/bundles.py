"""A history in a file: all versions of some branches and tags, to be carried where no connection leads.

The file begins with a line that says what it is; then come frames, each its length (4 bytes, big-endian) and
a zstd frame of MessagePack: first the name, the branches and the tags, then the versions, parents first, and
at the end how many there were with the BLAKE2b-256 of everything before. What is read is checked as what
comes over a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, BinaryIO, Final

import msgspec
import ormsgpack
from msgspec import Meta

from ...errors import InvalidCollectionState
from ...forms import decode_packed
from ..collection import VersionedCollection
from ..names import RESERVED, Names
from ..several.parts import keep_collections, travelled
from ..store.contents import Contents
from ..store.frames import Frames
from ..store.records import Record
from ..store.tree import Branch
from ..stored import StoredHistory, find_histories
from .ends import LocalEnd, id_of, public_of
from .exchange import Told, TravellingRow, TravellingVersion, missing, received, received_root, sent
from .receiving import Moved

#: The first line of a bundle.
MAGIC: Final = b"livesync bundle 3\n"

#: Bytes of a frame at most.
_LARGEST: Final = 1 << 30

_Ids = dict[str, bytes]
_Row = tuple[str, Annotated[int, Meta(ge=0, le=max(Told).value)], bytes, bytes]

#: What the frames hold: the first one; one of a version; and the last, which is known by how it begins.
_Beginning = tuple[str, _Ids, _Ids]
_Version = tuple[bytes, str, int, list[_Row]]
_End = tuple[int, bytes]
_PAIR: Final = b"\x92"


def write_bundle(collection: VersionedCollection, file: BinaryIO, branches: Iterable[str] = ()) -> int:
    """Write the versions of branches, and all that they need, into a file; return how many.

    Args:
        collection: Whose.
        file: Open for writing bytes.
        branches: Their names, and with them go the tags of their versions; none: all branches but those that
            pulls have put aside, and all tags.

    Raises:
        InvalidOperation: It has no versions.
        BranchNotFound: There is no such branch.
    """
    contents, names = collection.contents, collection.names
    chosen = sorted(set(branches) or public_of(names) or names.branches())
    tips = {name: names.branch(name).tip for name in chosen}
    tags = names.tags
    keys: dict[int, None] = {}
    for tip in (*tips.values(), *(() if branches else tags.values())):
        keys.update(dict.fromkeys(missing(contents, tip, lambda _: False)))
    ordered = sorted(keys, key=lambda key: (Record.unpacked(contents.stored.records[key]).generation, key))
    out, places = _Writer(file), names.places()
    tagged = {name: key for name, key in tags.items() if key in keys}
    ids = [{name: id_of(contents.stored, key) for name, key in at.items()} for at in (tips, tagged)]
    out.frame([collection.name, *ids])
    for key in ordered:
        version = sent(contents, places, key)
        out.frame([version.record, version.branch, version.number, [list(row) for row in version.rows]])
    out.frame([len(ordered), out.digest()])
    return len(ordered)


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=32)
        self._frames = Frames({})
        self._write(MAGIC)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)

    def frame(self, value: Any) -> None:
        body = self._frames.pack(ormsgpack.packb(value))
        self._write(len(body).to_bytes(4, "big") + body)

    def digest(self) -> bytes:
        return self._hash.digest()


def read_bundle(file: BinaryIO) -> VersionedCollection:
    """Return what is in a bundle as a collection in memory, from which others pull.

    Raises:
        InvalidCollectionState: It is no bundle, or damaged.
    """
    frames = _frames(file)
    name, ids, tags = next(frames)
    root: dict[str, Any] = {}
    stored = StoredHistory(name)
    contents = Contents(stored)
    keys: list[int] = []
    for record, branch, number, rows in frames:
        version = TravellingVersion(record, branch, number, tuple(TravellingRow(*row) for row in rows))
        keys.append(received(contents, version) if keys else received_root(stored, contents, version))
    if keys:
        keep_collections(stored, dict.fromkeys(travelled(contents), ""), has_host=False)
    find_histories(root, create=True)[name] = stored
    made = VersionedCollection(root, name)
    names = Names(stored.references)
    for branch, tip_id in ids.items():
        if branch not in names.branches():
            names.set_branch(branch, Branch(_key(stored, tip_id)))
    for tag, tagged_id in tags.items():
        names.set_tag(tag, _key(stored, tagged_id))
    first = next(iter(names.branches()))
    names.set_head(first, names.branch(first).tip)
    return made


def _key(stored: StoredHistory, version_id: bytes) -> int:
    key = stored.keys.get(version_id)
    if key is None:
        raise InvalidCollectionState("the bundle names a version that it does not hold")
    return int(key)


def pull_bundle(collection: VersionedCollection, bundle: VersionedCollection) -> list[Moved]:
    """Pull all branches and tags of a bundle, as of another database; return what became of each.

    A branch that a pull had put aside comes where it was exported by its name; else its versions do, where
    they were merged.

    Args:
        collection: Where they come; its name may be another than that of the bundle.
        bundle: What was read; it stays as it is, so that this can be done again after a conflict.

    Raises:
        InvalidOperation, InvalidCollectionState: As :meth:`VersionedCollection.pull`.
    """
    end, names = LocalEnd(bundle), bundle.names
    end.name = collection.name
    moved = []
    if public_of(names):
        moved += collection.pull_refs(end, tags=True, everything=True) or []
    for name in sorted(names.branches()):
        is_here = collection.is_tracked and bytes.fromhex(bundle.id_of(names.branch(name).tip)) in (
            collection.contents.stored.keys
        )
        if name.startswith(RESERVED) and not is_here:
            moved += collection.pull_refs(end, name, tags=True) or []
    return moved


def _frames(file: BinaryIO) -> Iterator[Any]:
    """Yield the frames before the last, once they are known to be whole.

    Raises:
        InvalidCollectionState: It is no bundle, or damaged.
    """
    made = hashlib.blake2b(digest_size=32)
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidCollectionState("this is no bundle of livesync")
    made.update(MAGIC)
    unpack = Frames({}).unpack
    count = -1  # the first frame is no version
    while True:
        length = file.read(4)
        size = int.from_bytes(length, "big")
        body = file.read(size) if len(length) == 4 and size <= _LARGEST else b""
        if len(length) < 4 or len(body) < size or size > _LARGEST:
            raise InvalidCollectionState("the bundle ends too early, or is damaged")
        data = unpack(body)
        is_last = data.startswith(_PAIR)
        form = _End if is_last else _Beginning if count < 0 else _Version
        try:
            value = decode_packed(data, form)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise InvalidCollectionState(f"the bundle is damaged: {exc}") from exc
        if is_last:
            if value != (count, made.digest()) or count < 0:
                raise InvalidCollectionState("the bundle is not what it says at its end: it is damaged")
            return
        made.update(length + body)
        count += 1
        yield value
