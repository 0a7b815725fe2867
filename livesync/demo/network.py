"""Home, Facility, City, Cloud, City 2 and a tablet: six nodes with real servers, most of them away mostly.

The story that peers over a network are made for: each has what its certificate allows, and what is done at
Home travels to Facility, City, Cloud and City 2, though processes are killed on the way.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from ..errors import LiveSyncError
from .history import Line as Edits
from .history import find_history, read_history
from .line import Line
from .nodes import PROFILE, Node, within

#: Lines of the history that the cloud has before anybody meets.
_BEGINNING: Final = 80

#: What each may have; "" is everything.
SHARES: Final = {
    "cloud": ("",),
    "city": ("",),
    "city2": ("",),
    "facility": ("pycon-us", "pydata-london"),
    "home": ("pycon-us:pycon-us-2013",),
    "tablet": ("pydata-london:pydata-london-2016",),
}

#: Scopes: of a facility two series, of a learner one conference.
_SCOPES: Final = [
    {"id": "facility", "profile": PROFILE, "read_write_filter_template": "$first $second"},
    {"id": "learner", "profile": PROFILE, "read_write_filter_template": "$series:$conference"},
]

#: Seconds to wait for the line to stand still.
_PATIENCE_S: Final = 90.0


def run(place: Path, say: Callable[[str], None], lines: Sequence[Edits] | None = None) -> bool:
    """Let the story happen; tell whether each holds just what it may in the end.

    Args:
        place: An empty directory for the databases.
        say: Is told, line by line, what happens.
        lines: The history; the small one when None.
    """
    history = list(read_history(find_history("history-small.jsonl.gz", {}))) if lines is None else list(lines)
    with ExitStack() as stack:
        nodes = {name: Node(place / name, name, say) for name in SHARES}
        for node in nodes.values():
            stack.callback(node.stop, signal.SIGKILL)
        story = _Story(nodes, place, say, stack)
        story.begin(history[:_BEGINNING])
        story.bring_everything_home()
        story.work(history[_BEGINNING:])
        story.carry_it_to_the_other_city()
        story.delete()
        return story.ended()


class _Story:
    """What happens, in its parts."""

    def __init__(
        self, nodes: dict[str, Node], place: Path, say: Callable[[str], None], stack: ExitStack
    ) -> None:
        self._nodes = nodes
        self._place = place
        self._say = say
        self._stack = stack

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def begin(self, lines: Sequence[Edits]) -> None:
        """Let the cloud have a catalogue, and give everybody a certificate."""
        say, cloud = self._say, self["cloud"]
        cloud.replay(lines)
        say("The cloud has a catalogue, and says who may have which part of it:")
        scopes = self._place.resolve() / "scopes.json"
        scopes.write_text(json.dumps(_SCOPES), "utf-8")
        cloud.run("peer", "init", "--root", PROFILE)
        cloud.run("peer", "scope", "add", str(scopes))
        for name in ("city", "city2"):
            self._give(cloud, self[name], "everything")
        self._give(cloud, self["facility"], "facility", first="pycon-us", second="pydata-london")
        facility = self["facility"]
        facility.do("peer", "scope", "add", str(scopes))
        self._give(facility, self["home"], "learner", series="pycon-us", conference="pycon-us-2013")
        self._give(
            facility, self["tablet"], "learner", series="pydata-london", conference="pydata-london-2016"
        )

    def _give(self, giver: Node, taker: Node, scope: str, **params: str) -> None:
        """Give a certificate, by files that are carried there and back."""
        there, back = (
            str(self._place.resolve() / f"{taker.name}-{word}.json") for word in ("request", "chain")
        )
        words = [word for name, value in params.items() for word in ("-p", f"{name}={value}")]
        taker.do("peer", "init")
        taker.do("peer", "cert", "request", "--profile", PROFILE, "--scope", scope, *words, "--to", there)
        giver.do("peer", "cert", "sign", there, "--to", back)
        taker.do("peer", "cert", "import", back, "--trust-root")
        named = ", ".join(f"{name}={value}" for name, value in params.items())
        what = f"{scope} ({named})" if named else scope
        self._say(f"  {taker.name} has a certificate of {giver.name}: {what}")

    def bring_everything_home(self) -> None:
        """Sync down: cloud, city, facility, home and tablet; the cloud's server is killed on the way."""
        say, cloud, city, facility = self._say, self["cloud"], self["city"], self["facility"]
        say("")
        say("City takes it all from the cloud, whose server is killed in the middle:")
        line = Line(cloud.serve())
        with closing(line):
            know(city, "cloud", line.url)
            line.stand_still_after(90_000)
            words = ("peer", "sync", "cloud")
            process = city.start(*words)
            if not line.stands.wait(_PATIENCE_S):
                raise LiveSyncError("city has synced before the cloud could be killed")
            cloud.stop(signal.SIGKILL)
            say("  (kill -9 of the cloud's server; it is begun again)")
            line.mend(cloud.serve())
            city.finish(process, words)
        cloud.stop()
        say("")
        say("City is brought to the facility, which serves home and the tablet then:")
        self._meet(facility, city)
        facility.serve()
        for name in ("home", "tablet"):
            know(self[name], "facility", f"http://127.0.0.1:{facility.port}")
            self[name].run("peer", "sync")
        facility.stop()

    def _meet(self, client: Node, server: Node, *words: str) -> None:
        """Let a node sync with another one, which serves as long as it takes."""
        server.serve()
        know(client, server.name, f"http://127.0.0.1:{server.port}")
        client.run("peer", "sync", server.name, *words)
        server.stop()

    def work(self, lines: Sequence[Edits]) -> None:
        """Let everybody edit for a week, and Home bring its work: it is switched off in the middle."""
        say, home, facility = self._say, self["home"], self["facility"]
        say("")
        edited = home.retitle("pycon-us/pycon-us-2013", 90), facility.retitle("pycon-us/pycon-us-2013", 3)
        self["cloud"].replay(lines)
        say(
            f"A week goes by: home edits {edited[0]} talks, facility {edited[1]} of the same, and the cloud's"
            f" people go on with {len(lines)} lines of the history."
        )
        say("Home is switched off in the middle of a sync, and syncs again:")
        line = Line(facility.serve())
        with closing(line):
            know(home, "facility", line.url)
            line.stand_still_after(30_000)
            process = home.start("peer", "sync", "facility")
            if not line.stands.wait(_PATIENCE_S):
                raise LiveSyncError("home has synced before it could be switched off")
            process.send_signal(signal.SIGKILL)
            process.communicate()
            say("  (kill -9 of home's livesync)")
            line.mend(facility.port)
            home.run("peer", "status")
            home.run("peer", "sync")
        facility.stop()

    def carry_it_to_the_other_city(self) -> None:
        """Sync up and over: facility, city, cloud, city 2."""
        say = self._say
        say("")
        say("What was done at home goes on to the city, the cloud, and the other city:")
        self._meet(self["facility"], self["city"])
        self._meet(self["city"], self["cloud"])
        self._meet(self["city2"], self["cloud"])

    def delete(self) -> None:
        """Remove a talk at the far end, and let that travel back to the home."""
        say, city2 = self._say, self["city2"]
        say("")
        talk = "pycon-us/pycon-us-2013/api-design-for-library-authors"
        city2.remove(talk)
        say(f"City 2 removes {talk}, and that travels back to home:")
        self._meet(city2, self["cloud"], "--push-only")
        self._meet(self["city"], self["cloud"])
        self._meet(self["facility"], self["city"])
        facility = self["facility"]
        facility.serve()
        for name in ("home", "tablet"):
            know(self[name], "facility", f"http://127.0.0.1:{facility.port}")
            self[name].run("peer", "sync")
        facility.stop()

    def ended(self) -> bool:
        """Say what each holds; tell whether it is what it may have of what the cloud holds."""
        say = self._say
        found = {name: node.held() for name, node in self._nodes.items()}
        everything = found["cloud"].items
        say("")
        say("In the end, each holds:")
        good = True
        for name, held in found.items():
            share = within(everything, SHARES[name])
            # a talk whose series is not shared lies in a placeholder, which the node has made itself
            is_right = within(held.items, SHARES[name]) == share and held.items.keys() - share <= held.own
            good = good and is_right
            series = Counter(partition.split(":")[0] for partition, _ in held.items.values())
            named = ", ".join(f"{count:,} of {part}" for part, count in series.most_common(3))
            more = f", and {len(series) - 3} series more" if len(series) > 3 else ""
            kept = f"; {held.conflicts} conflicts kept" if held.conflicts else ""
            wrong = "" if is_right else " - WRONG"
            say(f"  {name:<9}{len(held.items):>4,} entries: {named}{more}{kept}{wrong}")
        edited = sum("(as home has it)" in text for _, text in found["city2"].items.values())
        say(f"  {edited} talks as home has edited them are in the other city")
        good = good and edited > 0
        say(f"{'PASSED: each has just' if good else 'FAILED: somebody has not'} what its certificate allows")
        return good


def know(node: Node, name: str, url: str) -> None:
    """Let a node know where another one is now."""
    known = {peer["name"]: peer["url"] for peer in node.do("peer", "list")["peers"]}
    if known.get(name) == url:
        return
    if name in known:
        node.do("peer", "remove", name)
    node.do("peer", "add", name, url, "--profile", PROFILE, "--insecure-http")
