"""Things that are imported when they are needed: what settings and options name, and public names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def at_first_use(
    package: str, homes: Mapping[str, str], namespace: dict[str, Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``: each public name is loaded at its first use.

    Args:
        package: Its name.
        homes: Public name -> the module of the package that it comes from.
        namespace: The package's ``globals()``, in which what was loaded is kept.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = getattr(import_module(f".{homes[name]}", package), name)
        return namespace[name]

    def names() -> list[str]:
        return sorted({*namespace, *homes})

    return load, names
