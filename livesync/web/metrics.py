"""``/metrics``, as Prometheus asks for them."""

from __future__ import annotations

from pyramid.config import Configurator


def includeme(config: Configurator) -> None:
    """Add the view."""
