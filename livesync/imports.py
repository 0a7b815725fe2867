"""Things that are named in settings and options: ``package.module:attribute``."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def import_object(reference: str) -> Any:
    """Return what ``package.module:attribute`` names (the attribute may be dotted).

    Raises:
        ImportError: It cannot be imported, whatever the module raised; the text is one line.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as exc:
        raise ImportError(" ".join(f"{type(exc).__name__}: {exc}".split())) from exc
    return found
