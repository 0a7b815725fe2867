"""A real Plone for the tests: its environment, instances with a site, and what is asked of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = CHECKOUT / "tests" / "plone"

ADMIN = ("admin", "secret")

#: How long a real process may take on a busy machine, in seconds.
PATIENCE_S = 120

SITE_ZCML = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:browser="http://namespaces.zope.org/browser"
           xmlns:five="http://namespaces.zope.org/five">
  <include package="Zope2.App" />
{features}
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
  <browser:page name="run-script" for="*" class="plone_scripts.RunScript" permission="zope2.Public" />
</configure>
"""

ZOPE_CONF = """\
instancehome {home}
clienthome {home}/var
{databases}
<product-config livesync>
{product_config}
</product-config>
"""

FILE_DATABASE = """\
<zodb_db main>
  <filestorage>
    path {home}/var/Data.fs
    blob-dir {home}/var/blobs
  </filestorage>
  mount-point /
</zodb_db>
"""

ZEO_DATABASE = """\
<zodb_db main>
  <zeoclient>
    server 127.0.0.1:{port}
    storage 1
    blob-dir {home}/var/client-blobs
    shared-blob-dir false
  </zeoclient>
  mount-point /
</zodb_db>
"""

ZOPE_INI = """\
[app:zope]
use = egg:Zope#main
zope_conf = {home}/etc/zope.conf

[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 4

[pipeline:main]
pipeline =
    egg:Zope#httpexceptions
    zope

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = generic

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic

[formatter_generic]
format = %(asctime)s %(levelname)s [%(name)s] %(message)s
"""


def find_python() -> Path:
    """Return the Python of Plone's environment, which is made where it is not there yet.

    Where it cannot be made (no package index can be reached), the tests that need it are skipped, and say so;
    with CI set in the environment they fail.
    """
    named = os.environ.get("LIVESYNC_TEST_PLONE")
    if named:
        return Path(named)
    made = subprocess.run(
        [str(CHECKOUT / "bin" / "plone"), "-c", "import sys; print(sys.executable)"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode == 0:
        return Path(made.stdout.strip())
    reason = f"Plone cannot be installed here: {made.stderr.strip()[-500:]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def clean_environment(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LIVESYNC_")}
    return kept | {"PYTHONPATH": str(SCRIPTS), "PYTHONWARNINGS": "ignore", "TMPDIR": str(home)}


def free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_until(condition, what="it", patience_s=PATIENCE_S):
    """Return what ``condition`` returns once it is true."""
    deadline = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {patience_s} s"
        time.sleep(0.05)


def write_configuration(
    home: Path, databases: str = FILE_DATABASE, port: int = 0, without: bool = False, **product_config: str
) -> None:
    """Write zope.conf and site.zcml; ``without`` livesync's ZCML where that is asked for."""
    features = '  <exclude package="livesync.plugins" />' if without else ""
    lines = "\n".join(f"  {key.replace('_', '-')} {value}" for key, value in product_config.items())
    (home / "etc").mkdir(parents=True, exist_ok=True)
    (home / "var").mkdir(exist_ok=True)
    (home / "etc" / "site.zcml").write_text(SITE_ZCML.format(features=features))
    (home / "etc" / "zope.conf").write_text(
        ZOPE_CONF.format(home=home, databases=databases.format(home=home, port=port), product_config=lines)
    )


def make_template(python: Path, home: Path, *sites: str) -> Path:
    """Make an instance with empty Plone sites."""
    write_configuration(home, site="production")
    done = subprocess.run(
        [python, SCRIPTS / "make_site.py", home / "etc" / "zope.conf", *(sites or ("Plone",))],
        env=clean_environment(home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return home


class Reader:
    """A process that reads databases which others have open: see tests/plone/reader.py."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, SCRIPTS / "reader.py"],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE_S)

    def ask(self, what, db, **details):
        self._process.stdin.write(json.dumps({"what": what, "db": db, **details}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Plone:
    """A running Zope with a Plone site, an agent ``index`` and its SQLite file.

    Args:
        python: Plone's.
        home: The instance.
        port: Where it listens.
        db: The database's URI for other processes, for reading.
        reader: Reads it.
    """

    def __init__(self, python, home, port, db, reader):
        self.python, self.home, self.db, self.reader = python, home, db, reader
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/Plone"
        self.index = home / "index.db"
        self.log = home / "var" / "zope.log"
        self.process = None
        self.http = requests.Session()
        self.http.auth = ADMIN

    # -- the process -----------------------------------------------------------------------------

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-c", "import sys; from Zope2.Startup.serve import main; sys.exit(main())",
                 str(self.home / "etc" / "zope.ini")],
                env=clean_environment(self.home), stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_until(self._answers, "Zope answers")
        except BaseException:
            self.stop()
            raise

    def _answers(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return requests.get(self.root, timeout=5).status_code < 500
        except (requests.ConnectionError, requests.Timeout):
            return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
            self.process = None

    def livesync(self, *arguments, db=None):
        """Call the command line in another process, in Plone's environment."""
        return subprocess.run(
            [self.python, "-m", "livesync", *map(str, arguments)],
            env=clean_environment(self.home)
            | {"LIVESYNC_DB": db or self.db, "LIVESYNC_HOST": "plone", "LIVESYNC_SITE": "production"},
            cwd=self.home, capture_output=True, text=True, check=False,
        )  # fmt: skip

    # -- the REST API, and scripts in the process --------------------------------------------------

    def rest(self, method, path="", **body):
        """Call the REST API; return what it answers."""
        answer = self.http.request(
            method,
            f"{self.url}{path}",
            headers={"Accept": "application/json"},
            json=body or None,
            timeout=120,
        )
        assert answer.ok, (answer.status_code, answer.text[:2000])
        return answer.json() if answer.content else None

    def add(self, parent, portal_type, title, **fields):
        """Add content below ``parent`` (a path, or "" for the site); return its path and its UID."""
        made = self.rest("POST", parent, **{"@type": portal_type, "title": title, **fields})
        return made["@id"].removeprefix(self.url), made["UID"]

    def change_state(self, path, transition):
        return self.rest("POST", f"{path}/@workflow/{transition}")

    def script(self, code, path=""):
        """Run Python in Zope's process, in a request of its own, on the object at ``path``: ``context``."""
        answer = self.http.post(f"{self.url}{path}/@@run-script", data={"code": code}, timeout=120)
        assert answer.ok, answer.text[-3000:]
        return answer.json()

    # -- classic forms -----------------------------------------------------------------------------

    def submit(self, path, button, **values):
        """Get a form, fill it in as it is with ``values`` changed, and press ``button``."""
        page = self.http.get(f"{self.url}{path}", timeout=120)
        assert page.ok, page.text[:2000]
        fields = dict(_hidden(page.text))
        action = values.pop("action", path)
        answer = self.http.post(f"{self.url}{action}", data={**fields, **values, **button}, timeout=120)
        assert answer.ok, (answer.status_code, answer.text[:3000])
        return answer

    # -- what has arrived --------------------------------------------------------------------------

    def documents(self, audience="public"):
        """Return what the host says that an index for ``audience`` must hold: id -> document as JSON."""
        found = self.reader.ask("documents", self.db, audience=audience)
        assert "error" not in found, found
        return found

    def indexed(self):
        """Return what the index holds: id -> document as JSON."""
        if not self.index.exists():
            return None
        with closing(sqlite3.connect(f"file:{self.index}?mode=ro", uri=True, timeout=60)) as connection:
            return dict(connection.execute("SELECT object_id, document FROM documents"))

    def actions(self):
        """Return all actions so far, oldest first: ``(id, words)``."""
        return [(object_id, set(words)) for object_id, words in self.reader.ask("actions", self.db)]

    @contextmanager
    def recorded(self):
        """Give a dict that holds, after the block, what was recorded in it: id -> list of sets of words."""
        before, found = len(self.actions()), {}
        yield found
        for object_id, words in self.actions()[before:]:
            found.setdefault(object_id, []).append(words)

    def arrived(self):
        """Wait until the index holds exactly what it must; return it."""
        expected = self.documents()
        try:
            wait_until(lambda: self.indexed() == expected, "the index equals the host", 20)
        except AssertionError:
            assert self.indexed() == expected
        return {object_id: json.loads(document) for object_id, document in expected.items()}


def _hidden(html):
    for tag in re.findall(r"<input[^>]*>", html):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if attributes.get("type") == "hidden" and "name" in attributes:
            yield attributes["name"], attributes.get("value", "")


@contextmanager
def zeo_server(python, home):
    """Give the port of a ZEO server for the database in ``home/var``."""
    port = free_port()
    with (home / "var" / "zeo.log").open("ab") as log:
        process = subprocess.Popen(
            [python, "-m", "ZEO.runzeo", "-C", _zeo_conf(home, port)],
            env=clean_environment(home), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until(lambda: _listens(port), "the ZEO server answers")
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _zeo_conf(home, port):
    path = home / "zeo.conf"
    path.write_text(
        f"<zeo>\n  address 127.0.0.1:{port}\n</zeo>\n<filestorage 1>\n  path {home}/var/Data.fs\n"
        f"  blob-dir {home}/var/blobs\n</filestorage>\n"
    )
    return path


def _listens(port):
    with closing(socket.socket()) as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(python, template, reader, home, agent=True, without=False, zeo_port=0, **product_config):
    """Give a running copy of ``template`` in the directory ``home``.

    With ``zeo_port`` its database is that of a server which is there already; ``without``: without livesync.
    """
    if not zeo_port:
        shutil.copytree(template / "var", home / "var", ignore=shutil.ignore_patterns("*.lock"))
    write_configuration(
        home, ZEO_DATABASE if zeo_port else FILE_DATABASE, zeo_port, without,
        **{"site": "production", "runner": "thread", **product_config},
    )  # fmt: skip
    port = free_port()
    (home / "etc" / "zope.ini").write_text(ZOPE_INI.format(home=home, port=port))
    db = f"file://{home}/var/Data.fs?blobstorage_dir={home}/var/blobs"
    if zeo_port:
        db = f"zeo://127.0.0.1:{zeo_port}?blob_dir={home}/var/cli-blobs"
    plone = Plone(python, home, port, db, reader)
    if agent:
        for command in (
            ["agent", "add", "index", "--type", "sqlite", "-o", f"path={plone.index}"],
            ["agent", "activate", "index", "--from-start"],
            ["agent", "add_task", "index", "--interval", "1h"],  # and whenever something is committed
        ):
            done = plone.livesync(*command)
            assert done.returncode == 0, done.stderr
    plone.start()
    try:
        yield plone
    finally:
        plone.stop()
