"""The one shape that livesync's own signatures have, as text, made and read without a parser. Pure.

A signature of livesync covers the same components in the same order, with the same parameters. For such a
message the signature base (RFC 9421, section 2.5) is a few lines that need no structured fields to be parsed,
which would take longer than Ed25519 itself. What is made here is byte for byte what the library makes, and
whatever has another shape is left to the library, which knows all of the RFC
(:mod:`~livesync.peering.signatures`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .keys import from_text, to_text

#: The label and the tag of the signature.
LABEL: Final = "livesync"

_KEY_ID: Final = r"[A-Za-z0-9_.-]{1,128}"

#: An address that is signed as it is written: RFC 3986, with nothing escaped in the path.
_TARGET: Final = re.compile(
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)(?:\?((?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*))?"
)

#: A header's value that is signed as it is written.
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_INPUT: Final = re.compile(
    rf'{LABEL}=(\(([a-z0-9@" -]*)\);created=(0|[1-9][0-9]{{0,14}});keyid="({_KEY_ID})"'
    rf';alg="ed25519";tag="{LABEL}")'
)
_SIGNATURE: Final = re.compile(rf"{LABEL}=:([A-Za-z0-9+/]{{86}}==):")


@dataclass(frozen=True, slots=True)
class PlainSignature:
    """A signature as a message says it.

    Attributes:
        names: The components that it covers, quoted, as they are listed.
        parameters: The value of ``@signature-params``.
        created: Epoch seconds.
        key_id: Whose it is.
        raw: Its 64 bytes.
    """

    names: str
    parameters: str
    created: int
    key_id: str
    raw: bytes


def read_plain(fields: Mapping[str, str]) -> PlainSignature | None:
    """Return the signature of a message; None: it has another shape.

    Args:
        fields: The message's headers; names in lower case.
    """
    said = _INPUT.fullmatch(fields.get("signature-input", ""))
    mark = _SIGNATURE.fullmatch(fields.get("signature", ""))
    if said is None or mark is None:
        return None
    try:
        raw = from_text(mark[1])
    except ValueError:
        return None
    return PlainSignature(said[2], said[1], int(said[3]), said[4], raw)


def plain_parameters(components: Sequence[str], created: int, key_id: str) -> str | None:
    """Return the value of ``@signature-params`` of a new signature; None: the key is called otherwise."""
    if re.fullmatch(_KEY_ID, key_id) is None or created < 0:
        return None
    return f'({listed(components)});created={created};keyid="{key_id}";alg="ed25519";tag="{LABEL}"'


def listed(components: Sequence[str]) -> str:
    """Return components as a signature lists them."""
    return " ".join(f'"{name}"' for name in components)


def plain_base(
    components: Sequence[str], derived: Mapping[str, str], fields: Mapping[str, str], parameters: str
) -> bytes | None:
    """Return what is signed; None: something of it has another shape.

    Args:
        components: What is covered, in order.
        derived: The values of those that are no headers.
        fields: The headers; names in lower case.
        parameters: The value of ``@signature-params``.
    """
    lines = []
    for name in components:
        value = derived.get(name) if name.startswith("@") else fields.get(name)
        if value is None or _VALUE.fullmatch(value) is None:
            return None
        lines.append(f'"{name}": {value}\n')
    return f'{"".join(lines)}"@signature-params": {parameters}'.encode("ascii")


def derived_of_request(method: str, target: str) -> dict[str, str]:
    """Return what is derived of a request's first line; nothing where that has another shape."""
    match = _TARGET.fullmatch(target)
    if match is None or not (method.isascii() and method.isalpha() and method.isupper()):
        return {}
    return {"@method": method, "@path": match[1], "@query": "?" + (match[2] or "")}


def headers_of(parameters: str, raw: bytes) -> dict[str, str]:
    """Return the headers of a new signature."""
    return {"Signature-Input": f"{LABEL}={parameters}", "Signature": f"{LABEL}=:{to_text(raw)}:"}
