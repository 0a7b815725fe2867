"""JSON as typed values, safe in threads from the first time on.

msgspec works out what a ``Struct`` holds when it first decodes one. Where two threads come to that
at once, one uses what the other has half done, and the process ends with a segmentation fault. So a
decoder is made once for each form, by one thread at a time.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

Form = TypeVar("Form")

_lock = threading.Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode_json(body: bytes, form: type[Form]) -> Form:
    """Return JSON as a value of ``form``: a Struct, or a type made of some.

    Raises:
        msgspec.DecodeError: It is no JSON, or of another form (``msgspec.ValidationError``).
        UnicodeDecodeError, RecursionError: Its strings are no UTF-8; it is nested too deeply.
    """
    value: Form = _decoder(form).decode(body)
    return value


def converted(value: Any, form: type[Form]) -> Form:
    """Return what was decoded without a form as a value of ``form``.

    Raises:
        msgspec.ValidationError: It is of another form.
    """
    _decoder(form)
    return msgspec.convert(value, form)


def _decoder(form: Any) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get(form)
    if decoder is None:
        with _lock:
            decoder = _decoders.get(form)
            if decoder is None:
                decoder = _decoders[form] = msgspec.json.Decoder(form)
    return decoder


_unpackers: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def decode_packed(body: bytes, form: Any) -> Any:
    """Return MessagePack as a value of ``form``.

    Raises:
        msgspec.DecodeError: It is none, or of another form.
        UnicodeDecodeError, RecursionError: Its strings are no UTF-8; it is nested too deeply.
    """
    unpacker = _unpackers.get(form)
    if unpacker is None:
        with _lock:
            unpacker = _unpackers.get(form)
            if unpacker is None:
                unpacker = _unpackers[form] = msgspec.msgpack.Decoder(form)
    return unpacker.decode(body)
