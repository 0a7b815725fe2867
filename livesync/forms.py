"""JSON and MessagePack as typed values, safe in threads from the first time on.

msgspec works out what a ``Struct`` holds when it first decodes one. Where two threads come to that
at once, one uses what the other has half done, and the process ends with a segmentation fault. So a
decoder is made once for each form, by one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

Form = TypeVar("Form")
Decoder = TypeVar("Decoder")

_lock = threading.Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_unpackers: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def decode_json(body: bytes, form: type[Form]) -> Form:
    """Return JSON as a value of ``form``: a Struct, or a type made of some.

    Raises:
        msgspec.DecodeError: It is no JSON, or of another form (``msgspec.ValidationError``).
        UnicodeDecodeError, RecursionError: Its strings are no UTF-8; it is nested too deeply.
    """
    value: Form = _of_form(_decoders, form, msgspec.json.Decoder).decode(body)
    return value


def converted(value: Any, form: type[Form]) -> Form:
    """Return what was decoded without a form as a value of ``form``.

    Raises:
        msgspec.ValidationError: It is of another form.
    """
    _of_form(_decoders, form, msgspec.json.Decoder)
    return msgspec.convert(value, form)


def decode_packed(body: bytes, form: Any) -> Any:
    """Return MessagePack as a value of ``form``.

    Raises:
        msgspec.DecodeError: It is none, or of another form.
        UnicodeDecodeError, RecursionError: Its strings are no UTF-8; it is nested too deeply.
    """
    return _of_form(_unpackers, form, msgspec.msgpack.Decoder).decode(body)


def _of_form(known: dict[Any, Decoder], form: Any, make: Callable[[Any], Decoder]) -> Decoder:
    """Return the decoder of a form, which is made where there is none yet."""
    decoder = known.get(form)
    if decoder is None:
        with _lock:
            decoder = known.get(form)
            if decoder is None:
                decoder = known[form] = make(form)
    return decoder
