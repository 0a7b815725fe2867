"""Sphinx directives for what is made from the code; see ``rendering.py``."""

from __future__ import annotations

from typing import Any

import rendering
import webapi
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Rendered(SphinxDirective):
    """Puts in what :attr:`render` returns."""

    render: Any

    def run(self) -> list[nodes.Node]:
        text = "\n".join(type(self).render())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class CommandReference(_Rendered):
    """``.. livesync-commands::``: all commands."""

    render = staticmethod(rendering.command_reference)


class ExitCodeReference(_Rendered):
    """``.. livesync-exit-codes::``: the exit codes."""

    render = staticmethod(rendering.exit_code_reference)


class AgentReference(_Rendered):
    """``.. livesync-agents::``: the agent types and their options."""

    render = staticmethod(rendering.agent_reference)


class WebAPIReference(_Rendered):
    """``.. livesync-web-api::``: the operations of the JSON API, and its types."""

    render = staticmethod(webapi.reference)


class PeerAPIReference(_Rendered):
    """``.. livesync-peer-api::``: the operations of the peers' server, and its types."""

    render = staticmethod(webapi.peer_reference)


class PloneEvents(_Rendered):
    """``.. plone-events::``: what happens in Plone, and what is recorded."""

    render = staticmethod(rendering.plone_events)


class ZopeSettingsReference(_Rendered):
    """``.. zope-settings::``: the keys of ``<product-config livesync>``."""

    render = staticmethod(rendering.zope_settings)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("livesync-commands", CommandReference)
    app.add_directive("livesync-exit-codes", ExitCodeReference)
    app.add_directive("livesync-agents", AgentReference)
    app.add_directive("livesync-web-api", WebAPIReference)
    app.add_directive("livesync-peer-api", PeerAPIReference)
    app.add_directive("plone-events", PloneEvents)
    app.add_directive("zope-settings", ZopeSettingsReference)
    return {"parallel_read_safe": True}
