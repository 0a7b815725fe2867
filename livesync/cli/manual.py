"""The sections of the man pages that no parser holds. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .exitcodes import MEANINGS

#: Man page -> the line after its name.
SUMMARIES: Final = {
    "livesync": "keep other systems in step with a ZODB application",
    "livesync-agent": "manage the agents of livesync",
    "livesync-dead": "look after what livesync could not deliver",
    "livesync-peer": "sync a ZODB application both ways with other databases",
    "livesync-task": "have livesync do something again and again",
    "livesync-user": "say who may log in at the web pages of livesync",
    "livesync-version": "keep versions of a ZODB application's documents",
}

_ENVIRONMENT: Final = {
    "LIVESYNC_DB": "The database, as with --db.",
    "LIVESYNC_HOST": "The application, as with --host.",
    "LIVESYNC_SITE": "The name of this site. Agents run only where the database stores the same one.",
    "LIVESYNC_USERS": "The file with those who may log in at the web pages.",
    "LIVESYNC_CONFIG": "The file with the settings, as with --config.",
    "LIVESYNC_PEER_KEYS": "The directory with the private keys of two-way sync. Without it, they lie beside"
    " the database's file, in a directory whose name ends in .keys.",
    "LIVESYNC_PEER_PASSPHRASE, LIVESYNC_PEER_PASSPHRASE_FILE": "The passphrase that encrypts them, or a file"
    " whose first line it is.",
}

_FILES: Final = {
    "./livesync.toml, /etc/livesync.toml": "Settings: the keys db, host, site and users. The first that"
    " exists is read, unless --config or LIVESYNC_CONFIG names another. The command line and the"
    " environment go before it.",
}

_EXAMPLES: Final = {
    "livesync": {
        "livesync --db file:///srv/app/Data.fs install --site production": "Begin to record changes.",
        "livesync list --from 2026-11-05T10:00:00Z": "What has changed since then, newest first.",
        "livesync run --due": "For a line of crontab: run what is due.",
        "livesync status --check --max-lag 600": "For a monitoring system.",
    },
    "livesync-agent": {
        "livesync agent add search --type sqlite -o path=/srv/app/search.db": "Add an agent.",
        "livesync agent export search": "Send it everything that exists, then go live.",
        "livesync agent simulate search": "What would be sent now?",
        "livesync agent add_task search --interval 5m": "Let it be due every five minutes.",
        "livesync agent verify search": "Does it hold what the application has?",
    },
    "livesync-task": {
        "livesync task add prune --interval 1d": "Prune once a day.",
        'livesync task add verify --cron "0 3 * * 0" --zone Europe/Rome -o quick=yes': "Verify on Sundays"
        " at three.",
        "livesync task list": "What runs when, and what came of it?",
    },
    "livesync-dead": {
        "livesync dead list search --limit 10": "The ten that died last.",
        "livesync dead show search talk-12": "Why was this one refused?",
        "livesync dead retry search --all": "Send them again.",
    },
    "livesync-user": {
        "livesync user add anna --role operate": "Let somebody log in; the password is asked for.",
        "livesync user add_token grafana --role see": "Make a token for a program.",
    },
    "livesync-peer": {
        "livesync peer init --root conferences": "Begin to sync, and say who may.",
        "livesync peer cert list": "Who has which certificate, and until when?",
        "livesync peer cert revoke 6dfc8ec7 --reason stolen": "A device is lost: it has no access any more.",
        "livesync peer erase people/ada": "Somebody asks that their data be deleted, everywhere.",
        "livesync peer conflict list --open": "What could the application not take?",
        "livesync peer conflict show 3fa1": "What lost, beside what won.",
        "livesync peer conflict reinstate 3fa1": "Make what lost the item's content again.",
    },
    "livesync-version": {
        "livesync version init -m 'As it was imported'": "Begin to keep versions.",
        "livesync version register -m 'Talks of 2017'": "Make a version of what has changed since.",
        "livesync version log --graph": "All versions, branches and merges.",
        "livesync version diff main~3 main": "What differs between these two?",
        "livesync version show main:12 talk-7": "How was this document then?",
        "livesync version conflicts --take theirs --document talk-7": "Decide what a merge disagrees on.",
    },
}

_SEE_ALSO: Final = {page: tuple(other for other in SUMMARIES if other != page) for page in SUMMARIES}


def sections(page: str) -> Iterator[tuple[str, str]]:
    """Yield ``(heading, text in roff)`` of one man page, in order."""
    yield "environment", _items(_ENVIRONMENT)
    yield "files", _items(_FILES)
    yield (
        "exit status",
        _items({f"{code.value} {code.name}": _sentence(text) for code, text in MEANINGS.items()}),
    )
    yield "examples", _items(_EXAMPLES[page])
    yield "see also", ", ".join(f"\\fB{_roff(other)}\\fR(1)" for other in _SEE_ALSO[page])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _items(items: dict[str, str]) -> str:
    return "\n".join(f".TP\n\\fB{_roff(term)}\\fR\n{_roff(text)}" for term, text in items.items())


def _roff(text: str) -> str:
    """Return ``text`` with what roff would take for its own escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    # a line that begins with a dot or an apostrophe would be a request
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
