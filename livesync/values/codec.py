"""The values that a history keeps, and their one canonical encoding.

A version has to come back value for value, and two states are compared by their bytes. So the
encoding keeps every type apart (1, 1.0 and True are three things; so are a list and a tuple, 1.0 and
Decimal 1.0, 0.0 and -0.0, two NaNs of other bits), keeps the order of keys, and gives equal bytes for
equal values and for no others. It is MessagePack with extension types; their codes never change
meaning, and those from :data:`FIRST_FREE_CODE` on are for types that a host registers.

Whatever is of no known type, a subclass of one included, is refused with the path to it. Two things
are taken for their plain equals, since nothing tells them apart on the way: ``bytearray`` and
``memoryview`` come back as ``bytes``.

MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import ormsgpack

from ..errors import BrokenValue, UnkeptValue
from .extensions import MAPPING, REDUCERS, RESTORERS, TUPLE, is_clean, text_extension

#: From here on extension codes belong to types that hosts register.
FIRST_FREE_CODE: Final = 64

#: Bytes of a content hash.
HASH_BYTES: Final = 16

_STRICT: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

#: The packer, looked up once.
_PACK: Final = ormsgpack.packb

#: How an encoded list begins whose length follows in four bytes.
_ROW: Final = b"\xdd"

#: Types whose values are the same exactly when they are equal.
_COMPARABLE: Final = frozenset({str, int, bool, bytes, type(None)})

_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of a host's own that a history is to keep.

    Attributes:
        code: Its extension code, :data:`FIRST_FREE_CODE` to 127; never used again for another type.
        type: The type itself; subclasses are other types.
        reduce: Turns a value into one of plain types, the same for equal values.
        restore: The way back.
    """

    code: int
    type: type
    reduce: Callable[[Any], Any]
    restore: Callable[[Any], Any]


class Codec:
    """Encodes values canonically, and decodes them.

    It is a value without state: safe to share between threads.

    Args:
        kinds: Types of a host's own.

    Raises:
        ValueError: A code is out of range, or given twice; a type is one that is kept anyway.
    """

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._reducers = dict(REDUCERS)
        self._restorers = dict(RESTORERS)
        self._hook = self._extended  # bound once: it is asked for at every call
        for kind in kinds:
            if not FIRST_FREE_CODE <= kind.code <= 127 or kind.code in self._restorers:
                raise ValueError(
                    f"{kind.code} is no free extension code: {FIRST_FREE_CODE} to 127, each once"
                )
            if kind.type in self._reducers or kind.type in _PLAIN or kind.type in (dict, list):
                raise ValueError(f"{kind.type.__name__} is kept already")
            self._reducers[kind.type] = _reducer(kind)
            self._restorers[kind.code] = _restorer(kind)

    def encode(self, value: Any) -> bytes:
        """Return the canonical bytes of ``value``.

        Raises:
            UnkeptValue: Something in it is of no known type, or it is nested too deep (or in itself).
        """
        try:
            return _PACK(value, self._hook, _STRICT)
        except TypeError:
            # Keys that are no text, text with lone surrogates, and what cannot be kept: the walk knows.
            return self._encode_walked(value)

    def decode(self, encoded: bytes) -> Any:
        """Return the value whose bytes these are.

        Raises:
            BrokenValue: They are none of :meth:`encode`'s.
        """
        try:
            return ormsgpack.unpackb(encoded, ext_hook=self._restored)
        except (ValueError, RecursionError) as exc:
            raise BrokenValue(f"these bytes are no encoded value: {self._reason(encoded, exc)}") from exc

    def decode_all(self, encoded: Sequence[bytes]) -> list[Any]:
        """Return the values whose bytes these are; many at once is faster.

        Bytes that are whole values only together are not told from such as are: compare what comes out.

        Raises:
            BrokenValue: Some are none of :meth:`encode`'s.
        """
        row = b"".join((_ROW, len(encoded).to_bytes(4, "big"), *encoded))
        try:
            values: list[Any] = ormsgpack.unpackb(row, ext_hook=self._restored)
        except (ValueError, RecursionError):
            return [
                self.decode(one) for one in encoded
            ]  # which says what is wrong; one by one less is nested
        return values

    def _reason(self, encoded: bytes, exc: Exception) -> Exception:
        """Return what is wrong with bytes that cannot be decoded.

        The unpacker says no more than that its hook failed, so the hook is asked again.
        """
        raised: list[Exception] = []

        def restored(code: int, payload: bytes) -> Any:
            try:
                return self._restored(code, payload)
            except Exception as inner:
                raised.append(inner)
                raise

        with suppress(ValueError, RecursionError):
            ormsgpack.unpackb(encoded, ext_hook=restored)
        return raised[0] if raised else exc

    def decode_foreign(self, encoded: bytes) -> Any:
        """Return the value of bytes that come from outside; only the canonical ones are taken.

        Raises:
            BrokenValue: They are none of :meth:`encode`'s, to the byte.
        """
        value = self.decode(encoded)
        if self.encode(value) != encoded:
            raise BrokenValue("these bytes are not the canonical encoding of what they hold")
        return value

    def content_hash(self, value: Any) -> bytes:
        """Return the BLAKE2b-128 of the canonical bytes: equal for equal values.

        Raises:
            UnkeptValue: As :meth:`encode`.
        """
        return hash_of(self.encode(value))

    def equal(self, one: Any, other: Any) -> bool:
        """Tell whether two values are the same to the bit, types and order of keys included.

        Raises:
            UnkeptValue: As :meth:`encode`.
        """
        kind = type(one)
        if kind is not type(other):
            return False
        if kind in _COMPARABLE:
            return bool(one == other)
        return self.encode(one) == self.encode(other)

    # -- extension types -------------------------------------------------------------------------

    def _extended(self, value: Any) -> Any:
        reduce = self._reducers.get(type(value))
        if reduce is None:
            raise TypeError(f"{type(value).__name__} cannot be kept")
        return reduce(self, value)

    def _restored(self, code: int, payload: bytes) -> Any:
        restore = self._restorers.get(code)
        if restore is None:
            raise BrokenValue(
                f"there is no extension type {code}; a newer livesync, or the host, may know it"
            )
        return restore(self, payload)

    # -- the slow way ----------------------------------------------------------------------------

    def _encode_walked(self, value: Any) -> bytes:
        try:
            return ormsgpack.packb(self._walked(value, ()), self._extended, _STRICT)
        except RecursionError as exc:
            raise UnkeptValue("the value is nested too deep, or contains itself") from exc
        except TypeError as exc:
            if isinstance(exc, UnkeptValue):
                raise
            raise UnkeptValue(f"the value cannot be kept: {exc}") from exc

    def _walked(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return what packs to the same, with all that the packer does not take written as extensions."""
        kind = type(value)
        if kind is str:
            return value if is_clean(value) else text_extension(value)
        if kind is dict:
            return self._walked_dict(value, path)
        if kind is list:
            return [self._walked(item, (*path, index)) for index, item in enumerate(value)]
        if kind in _PLAIN or kind in (bytearray, memoryview):
            return value
        if kind is tuple:
            items = [self._walked(item, (*path, index)) for index, item in enumerate(value)]
            return ormsgpack.Ext(TUPLE, self._packed(items))
        if kind not in self._reducers:
            where = f" at {shown_path(path)}" if path else ""
            raise UnkeptValue(f"{kind.__module__}.{kind.__qualname__}{where} cannot be kept", path)
        try:
            return self._extended(value)
        except UnkeptValue as exc:
            raise UnkeptValue(f"{exc} (in {shown_path(path)})", path) from exc

    def _walked_dict(self, value: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        items = [
            (self._walked_key(key, path), key, self._walked(item, (*path, key)))
            for key, item in value.items()
        ]
        if all(type(key) is str and key is walked for walked, key, _ in items):
            return {key: item for _, key, item in items}
        return ormsgpack.Ext(
            MAPPING, self._packed([part for walked, _, item in items for part in (walked, item)])
        )

    def _walked_key(self, key: Any, path: tuple[Any, ...]) -> Any:
        try:
            return self._walked(key, ())
        except UnkeptValue as exc:
            raise UnkeptValue(f"a key at {shown_path(path)}: {exc}", path) from exc

    def _packed(self, value: Any) -> bytes:
        return ormsgpack.packb(value, self._extended, _STRICT)


_HASH: Final = hashlib.blake2b(digest_size=HASH_BYTES)


def hash_of(encoded: bytes) -> bytes:
    """Return the content hash of canonical bytes: BLAKE2b, 16 bytes."""
    made = _HASH.copy()  # quicker than a new one
    made.update(encoded)
    return made.digest()


def shown_path(path: Iterable[Any]) -> str:
    """Return a path as people read it: ``speakers[0].name``; ``document`` for the empty one."""
    return "".join(_shown_steps(path)).removeprefix(".") or "document"


def _shown_steps(path: Iterable[Any]) -> Iterator[str]:
    for step in path:
        if type(step) is str and step.isidentifier():
            yield f".{step}"
        else:
            yield f"[{step!r}]"


def _reducer(kind: Kind) -> Callable[[Codec, Any], Any]:
    return lambda codec, value: ormsgpack.Ext(kind.code, codec.encode(kind.reduce(value)))


def _restorer(kind: Kind) -> Callable[[Codec, bytes], Any]:
    return lambda codec, payload: kind.restore(codec.decode(payload))


#: The codec of those who register no types of their own.
CODEC: Final = Codec()
