"""morango's processes: a server and a client, each with an SQLite file.

``prepare CLIENT SERVER``, ``server DIR HOW…`` and ``client DIR URL HOW…``. A server says its port, and what
it holds when it gets a line ``held``; a client obeys lines: ``fill FROM TO EDITION``, and ``sync``, which
says seconds and items. HOW may be

``without-waiting``
    ``sleep`` of ``morango.sync.controller``, by which its client waits between one look at a transfer and the
    next, returns at once. Nothing else in morango waits while all goes well.

``items-only``
    Its settings ``MORANGO_SERIALIZE_BEFORE_QUEUING`` and ``MORANGO_DESERIALIZE_AFTER_DEQUEUING`` are off, and
    what is filled in is serialized then: a sync takes items from store to store.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

_ROOT_FILE = "root.txt"
_TITLE = "A talk about nothing in particular"


_ITEMS_ONLY = "items-only"


def set_up(directory: Path, *how: str) -> None:
    """Make Django ready, with the database of a directory."""
    warnings.simplefilter("ignore")
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="bench",
        DEBUG=False,
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="morango.urls",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "mptt",
            "rest_framework",
            "morango",
            "bench.morango_site",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / "db.sqlite3"),
                "OPTIONS": {"timeout": 60},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        LOGGING_CONFIG=None,
        MORANGO_SERIALIZE_BEFORE_QUEUING=_ITEMS_ONLY not in how,
        MORANGO_DESERIALIZE_AFTER_DEQUEUING=_ITEMS_ONLY not in how,
    )
    logging.disable(logging.WARNING)
    django.setup()
    if "without-waiting" in how:
        from morango.sync import controller

        controller.sleep = lambda seconds: None


def migrate(directory: Path) -> None:
    """Make the tables; SQLite is to write ahead, so that reading does not wait for writing."""
    directory.mkdir(parents=True, exist_ok=True)
    set_up(directory)
    from django.core.management import call_command
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=wal")
    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("loaddata", "scopedefinitions", verbosity=0)


def make_root(directory: Path) -> None:
    """Make a root certificate, and say one below it, with its private key."""
    migrate(directory)
    from morango.api.serializers import CertificateSerializer
    from morango.models.certificates import Certificate, Key

    root = Certificate.generate_root_certificate("everything")
    key = Key()
    child = Certificate(
        parent=root,
        profile=root.profile,
        scope_definition=root.scope_definition,
        scope_version=root.scope_version,
        scope_params=root.scope_params,
        public_key=Key(public_key_string=key.get_public_key_string()),
        salt="client",
    )
    child.id = child.calculate_uuid()
    root.sign_certificate(child)
    child.check_certificate()
    chain = CertificateSerializer([root, child], many=True).data
    (directory / _ROOT_FILE).write_text(root.id)
    _say(root=root.id, chain=json.dumps(chain), key=key.get_private_key_string())


def take_certificate(directory: Path) -> None:
    """Take a certificate that :func:`make_root` has said, from standard input."""
    migrate(directory)
    from morango.models.certificates import Certificate, Key

    told = json.loads(sys.stdin.readline())
    own = Certificate.save_certificate_chain(told["chain"])
    own.private_key = Key(private_key_string=told["key"])
    own.save()
    (directory / _ROOT_FILE).write_text(told["root"])


def prepare(client_directory: Path, server_directory: Path) -> None:
    """Make both databases, with certificates below one root; each in a process of its own."""
    program = [sys.executable, "-m", __spec__.name]
    made = subprocess.run(
        [*program, "make-root", str(server_directory)], check=True, capture_output=True, text=True
    )
    subprocess.run(
        [*program, "take-certificate", str(client_directory)], check=True, input=made.stdout, text=True
    )


def serve(directory: Path, *how: str) -> None:
    """Serve morango's pages, until there is a line on standard input that asks for nothing."""
    set_up(directory, *how)
    from django.core.wsgi import get_wsgi_application
    from waitress.server import create_server

    server = create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=4)
    print(server.effective_port, flush=True)
    threading.Thread(target=server.run, daemon=True).start()
    for line in sys.stdin:
        if line.strip() != "held":
            break
        _say(**_held(_ITEMS_ONLY in how))
    _say(peak_mb=_peak_mb())


def _held(items_only: bool) -> dict[str, int]:
    from morango.models.core import Store

    from .models import Talk

    if items_only:
        editions = [json.loads(found.serialized)["edition"] for found in Store.objects.all()]
        return {"items": len(editions), "edited": sum(editions)}
    return {"items": Talk.objects.count(), "edited": Talk.objects.filter(edition=1).count()}


def client(directory: Path, url: str, *how: str) -> None:
    """Obey lines of standard input."""
    set_up(directory, *how)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "sync":
            began = time.perf_counter()
            items = _sync(directory, url)
            _say(seconds=time.perf_counter() - began, items=items)
        elif word == "fill":
            _fill(directory, *map(int, numbers), is_serialized=_ITEMS_ONLY in how)
            _say()
        else:
            break
    _say(peak_mb=_peak_mb())


def _fill(directory: Path, first: int, last: int, edition: int, is_serialized: bool) -> None:
    from django.db import transaction
    from morango.models.certificates import Filter
    from morango.sync.controller import MorangoProfileController

    from .models import Talk

    root = (directory / _ROOT_FILE).read_text()
    with transaction.atomic():
        for number in range(first, last):
            Talk(title=_TITLE, number=number, edition=edition, root=root).save()
    if is_serialized:
        MorangoProfileController("talks").serialize_into_store(Filter(root))


def _sync(directory: Path, url: str) -> int:
    """Sync both ways, as a whole session; return how many items were sent."""
    from morango.models.certificates import Certificate, Filter
    from morango.sync.syncsession import NetworkSyncConnection

    root = (directory / _ROOT_FILE).read_text()
    connection = NetworkSyncConnection(base_url=url)
    server = next(found for found in connection.get_remote_certificates(root) if found.id == root)
    own = Certificate.objects.exclude(_private_key=None).get()
    session = connection.create_sync_session(own, server)
    transferred = 0
    for begin in (session.get_pull_client, session.get_push_client):
        transfer = begin()
        transfer.initialize(Filter(root))
        transfer.run()
        transferred = transfer.current_transfer_session.records_transferred
        transfer.finalize()
    connection.close_sync_session(session.sync_session)
    connection.close()
    return transferred


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "prepare":
        prepare(Path(place), Path(rest[0]))
    elif what == "make-root":
        make_root(Path(place))
    elif what == "take-certificate":
        take_certificate(Path(place))
    elif what == "server":
        serve(Path(place), *rest)
    else:
        client(Path(place), *rest)
