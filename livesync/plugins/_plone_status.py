"""The page in Plone's control panel: where livesync's agents are, and the way to livesync's own pages."""

from __future__ import annotations

from typing import Any

from Products.Five.browser import BrowserView

from ..cli.tables import duration
from ..errors import LiveSyncError
from ..gathering import connection_of
from ..manager import SyncManager
from ._zope_settings import zope_settings


class StatusView(BrowserView):
    """Shows the agents of the database in which the site is stored; for those who manage the site."""

    #: One line for people where there is nothing to show.
    problem = ""

    def agents(self) -> list[dict[str, Any]]:
        """Return a row for each agent: text only; none where :attr:`problem` says why."""
        try:
            manager = SyncManager.get(connection_of(self.context).root())
        except LiveSyncError as exc:
            self.problem = str(exc)
            return []
        status = manager.status()
        if not status.agents:
            self.problem = "There is no agent yet; add one with: livesync agent add ID --type TYPE"
        return [
            {
                "id": agent.id,
                "type": agent.type_name,
                "state": f"{agent.state}: {agent.reason}" if agent.reason else agent.state,
                "lag": f"{agent.lag_actions:,}",
                "behind": duration(agent.lag_seconds),
                "dead": f"{agent.dead:,}",
                "error": agent.last_error or agent.detail,
            }
            for agent in status.agents
        ]

    def pages_url(self) -> str:
        """Return where livesync's own pages are; empty: nobody has said."""
        try:
            return zope_settings().pages_url
        except LiveSyncError as exc:
            self.problem = str(exc)
            return ""
