"""How each type that MessagePack lacks is written: its extension code, its payload, and the way back.

Codes never change meaning, and are never used again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack

from ..errors import BrokenValue, UnkeptValue

if TYPE_CHECKING:
    from .codec import Codec

TUPLE, _SET, _FROZENSET, _INT, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _UUID = range(1, 11)
_COMPLEX, MAPPING, _TEXT = 12, 13, 14


def is_clean(text: str) -> bool:
    """Tell whether a text has no lone surrogates, so that UTF-8 can hold it."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def text_extension(text: str) -> Any:
    """Return a text with lone surrogates as an extension."""
    return ormsgpack.Ext(_TEXT, text.encode("utf-8", "surrogatepass"))


def _reduce_members(code: int) -> Callable[[Codec, Any], Any]:
    def reduce(codec: Codec, value: Any) -> Any:
        members = sorted(codec.encode(member) for member in value)
        return ormsgpack.Ext(code, ormsgpack.packb(members))

    return reduce


def _restore_members(kind: type) -> Callable[[Codec, bytes], Any]:
    def restore(codec: Codec, payload: bytes) -> Any:
        members = ormsgpack.unpackb(payload)
        if type(members) is not list or not all(type(member) is bytes for member in members):
            raise BrokenValue("a set's members are encoded one by one")
        return kind(codec.decode(member) for member in members)

    return restore


def _reduce_tuple(codec: Codec, value: tuple[Any, ...]) -> Any:
    return ormsgpack.Ext(TUPLE, codec.encode(list(value)))


def _restore_tuple(codec: Codec, payload: bytes) -> tuple[Any, ...]:
    items = codec.decode(payload)
    if type(items) is not list:
        raise BrokenValue("a tuple is written as a list")
    return tuple(items)


def _restore_mapping(codec: Codec, payload: bytes) -> dict[Any, Any]:
    flat = codec.decode(payload)
    if type(flat) is not list or len(flat) % 2:
        raise BrokenValue("a mapping is written as keys and values in turn")
    restored = dict(zip(flat[::2], flat[1::2]))
    if len(restored) * 2 != len(flat):
        raise BrokenValue("a key is in a mapping twice")
    return restored


def _reduce_int(_: Codec, value: int) -> Any:
    length = (value.bit_length() + 8) // 8
    return ormsgpack.Ext(_INT, value.to_bytes(length, "big", signed=True))


def _restore_int(_: Codec, payload: bytes) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _zone_of(zone: datetime.tzinfo | None) -> Any:
    """Return a time zone as a plain value: None, True (UTC), seconds, [seconds, name] or a key."""
    if zone is None:
        return None
    if zone is datetime.UTC:
        return True
    # subclasses are other types: what they tell cannot be known
    if isinstance(zone, ZoneInfo) and type(zone) is ZoneInfo:
        if zone.key is None:
            raise UnkeptValue("a time zone without a key cannot be kept")
        return zone.key
    if isinstance(zone, datetime.timezone):
        offset = zone.utcoffset(None)
        span = [offset.days * 86_400 + offset.seconds, offset.microseconds]
        return [*span, zone.tzname(None)] if _is_named(zone) else span
    raise UnkeptValue(f"a time zone of type {type(zone).__module__}.{type(zone).__qualname__} cannot be kept")


def _is_named(zone: datetime.timezone) -> bool:
    return len(zone.__getinitargs__()) > 1  # type: ignore[attr-defined]


def _zone(stored: Any) -> datetime.tzinfo | None:
    if stored is None:
        return None
    if stored is True:
        return datetime.UTC
    if type(stored) is str:
        return ZoneInfo(stored)
    offset = datetime.timedelta(seconds=stored[0], microseconds=stored[1])
    return datetime.timezone(offset, *stored[2:])


def _reduce_datetime(_: Codec, value: datetime.datetime) -> Any:
    naive = value.replace(tzinfo=None, fold=0)
    parts: list[Any] = [naive.toordinal(), _microseconds(naive.time())]
    zone = _zone_of(value.tzinfo)
    if zone is not None or value.fold:
        parts.append(zone)
    if value.fold:
        parts.append(1)
    return ormsgpack.Ext(_DATETIME, ormsgpack.packb(parts))


def _restore_datetime(_: Codec, payload: bytes) -> datetime.datetime:
    parts = ormsgpack.unpackb(payload)
    day = datetime.date.fromordinal(parts[0])
    time = _time_of(parts[1])
    zone = _zone(parts[2]) if len(parts) > 2 else None
    return datetime.datetime.combine(day, time.replace(fold=1 if len(parts) > 3 else 0), zone)


def _reduce_time(_: Codec, value: datetime.time) -> Any:
    parts = [_microseconds(value), _zone_of(value.tzinfo), value.fold]
    return ormsgpack.Ext(_TIME, ormsgpack.packb(parts))


def _restore_time(_: Codec, payload: bytes) -> datetime.time:
    micros, zone, fold = ormsgpack.unpackb(payload)
    return _time_of(micros).replace(tzinfo=_zone(zone), fold=fold)


def _microseconds(time: datetime.time) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


def _time_of(micros: int) -> datetime.time:
    seconds, micro = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return datetime.time(hour, minute, second, micro)


def _reduce_timedelta(_: Codec, value: datetime.timedelta) -> Any:
    return ormsgpack.Ext(_TIMEDELTA, ormsgpack.packb([value.days, value.seconds, value.microseconds]))


def _restore_timedelta(_: Codec, payload: bytes) -> datetime.timedelta:
    return datetime.timedelta(*ormsgpack.unpackb(payload))


def _reduce_complex(_: Codec, value: complex) -> Any:
    return ormsgpack.Ext(_COMPLEX, ormsgpack.packb([value.real, value.imag]))


def _restore_complex(_: Codec, payload: bytes) -> complex:
    return complex(*ormsgpack.unpackb(payload))


#: Type -> what makes an extension of a value.
REDUCERS: Final[dict[type, Callable[[Codec, Any], Any]]] = {
    tuple: _reduce_tuple,
    set: _reduce_members(_SET),
    frozenset: _reduce_members(_FROZENSET),
    int: _reduce_int,
    datetime.datetime: _reduce_datetime,
    datetime.date: lambda _, value: ormsgpack.Ext(_DATE, value.toordinal().to_bytes(3, "big")),
    datetime.time: _reduce_time,
    datetime.timedelta: _reduce_timedelta,
    Decimal: lambda _, value: ormsgpack.Ext(_DECIMAL, str(value).encode()),
    UUID: lambda _, value: ormsgpack.Ext(_UUID, value.bytes),
    complex: _reduce_complex,
}

#: Code -> what makes a value of a payload.
RESTORERS: Final[dict[int, Callable[[Codec, bytes], Any]]] = {
    TUPLE: _restore_tuple,
    _SET: _restore_members(set),
    _FROZENSET: _restore_members(frozenset),
    _INT: _restore_int,
    _DATETIME: _restore_datetime,
    _DATE: lambda _, payload: datetime.date.fromordinal(int.from_bytes(payload, "big")),
    _TIME: _restore_time,
    _TIMEDELTA: _restore_timedelta,
    _DECIMAL: lambda _, payload: Decimal(payload.decode()),
    _UUID: lambda _, payload: UUID(bytes=payload),
    _COMPLEX: _restore_complex,
    MAPPING: _restore_mapping,
    _TEXT: lambda _, payload: payload.decode("utf-8", "surrogatepass"),
}
