"""From arguments to exit codes, and no traceback on the way."""

import os
import signal
import subprocess
import sys

import pytest
from support.waiting import LONG_S

import livesync
from livesync import errors
from livesync.cli.exitcodes import MEANINGS, ExitCode, code_of, gravest
from livesync.cli.main import main

EXPECTED_CODES = {
    "DatabaseError": 4,
    "DatabaseLocked": 5,
    "NotInstalled": 11,
    "UpgradeNeeded": 12,
    "SiteDiffers": 13,
    "NotFound": 3,
    "UnknownAgent": 3,
    "UnknownConflict": 3,
    "UnknownTask": 3,
    "UnknownAgentType": 3,
    "UnknownObject": 3,
    "VersionPruned": 3,
    "HostError": 6,
    "HostNotFound": 6,
    "HostFailed": 6,
    "ReadOnlyHost": 6,
    "NoDocument": 6,
    "DeliveryError": 7,
    "RetryLater": 7,
    "BatchRefused": 7,
    "ServiceRefuses": 7,
    "AgentStopped": 7,
    "TooManyRefused": 7,
    "Leased": 9,
    "LeaseLost": 9,
    "UnknownPeer": 3,
    "UnknownCertificate": 3,
    "UnknownScope": 3,
    "SyncError": 10,
    "ChangesRefused": 10,
    "ClockAhead": 10,
    "ItemErased": 10,
    "SessionTimedOut": 10,
    "SyncRunning": 9,
    "TransferEnded": 10,
    "BufferGap": 10,
    "OfferChanged": 10,
    "StageWaits": 7,
    "PeerUnreachable": 7,
    "PeerSaysNo": 10,
    "BodyTooLarge": 10,
    "BodyUnreadable": 10,
    "PeerRefused": 10,
    "CertificateRefused": 10,
    "CertificateExpired": 10,
    "CertificateRevoked": 10,
    "ProfileDiffers": 10,
    "SignatureRefused": 10,
    "DigestDiffers": 10,
    "NonceRefused": 10,
    "ScopeExceeded": 10,
    "LoginRefused": 10,
    "NotAllowed": 10,
    "InvalidCollectionVersion": 3,
    "InvalidCollectionState": 4,
    "BranchNotFound": 3,
}


def test_every_error_of_the_tree_has_the_documented_code():
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.LiveSyncError):
            assert code_of(kind.__new__(kind)) == EXPECTED_CODES.get(name, 2), name


def test_an_error_that_nobody_foresaw_is_internal_and_storage_errors_are_the_databases():
    from ZODB.POSException import ConflictError, ReadOnlyError

    assert code_of(ZeroDivisionError()) is ExitCode.INTERNAL
    assert code_of(ReadOnlyError()) is ExitCode.DATABASE
    assert code_of(ConflictError("busy")) is ExitCode.DATABASE


def test_the_gravest_of_several_codes_wins():
    assert gravest([]) is ExitCode.OK
    assert gravest([ExitCode.OK, ExitCode.DEAD_LETTERS, ExitCode.OK]) is ExitCode.DEAD_LETTERS
    assert gravest([ExitCode.DEAD_LETTERS, ExitCode.SERVICE]) is ExitCode.SERVICE


def test_help_has_every_exit_code_and_what_it_means(cli):
    answer = cli("--help")

    assert answer.code == 0
    for code, meaning in MEANINGS.items():
        assert f"{code.value:>3}  {code.name}" in answer.out
        assert meaning in answer.out


def test_version_is_told(cli):
    assert cli("--version").out == f"livesync {livesync.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["agent"],
        ["agent", "nonsense"],
        ["list", "--nonsense"],
        ["agent", "show"],
        ["agent", "add", "x"],
        ["agent", "add_task", "x"],
        ["agent", "activate", "x", "--from-start", "--from-now"],
        ["list", "--pointer", "a", "--from", "3"],
        ["agent", "enqueue"],
        ["agent", "export", "x", "--mode", "sometimes"],
        ["agent", "export", "x", "--failed", "--under", "y"],
        ["agent", "export", "x", "--id"],
        ["agent", "verify"],
        ["agent", "verify", "x", "--limit", "-1"],
        ["agent", "repair", "x", "--limit", "1"],
        ["agent", "show", "x", "--runs", "some"],
        ["dead"],
        ["dead", "nonsense"],
        ["dead", "list", "--limit", "many"],
        ["dead", "show", "x"],
        ["dead", "retry"],
        ["forget"],
        ["prune", "--keep", "-1"],
        ["prune", "--keep", "1d", "--before", "5"],
        ["adopt"],
    ],
)
def test_a_wrong_command_line_is_one_line_and_usage(cli, arguments):
    answer = cli(*arguments)

    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert "--help" in answer.err


def test_global_options_may_stand_before_and_after_the_command(cli, monkeypatch, tmp_path):
    cli("install")
    monkeypatch.delenv("LIVESYNC_DB")
    uri = f"file://{tmp_path}/Data.fs"

    for arguments in (
        ["--db", uri, "--json", "agent", "list"],
        ["agent", "list", "--db", uri, "--json"],
        ["--db", uri, "agent", "--json", "list"],
    ):
        assert cli(*arguments).get_json() == {"format": 1, "agents": []}


def test_an_unexpected_exception_is_one_line_and_its_own_code(installed, monkeypatch):
    monkeypatch.setattr("livesync.cli.agents.shown_state", lambda agent: 1 / 0)
    installed("agent", "add", "a", "--type", "cliplugins:CountingAgent")

    answer = installed("agent", "list")

    assert answer.code == 70
    assert (
        answer.err == "livesync: unexpected ZeroDivisionError: division by zero (run with -v to see where)\n"
    )


def test_verbose_shows_where_it_happened(installed, monkeypatch, capsys):
    monkeypatch.setattr("livesync.cli.agents.shown_state", lambda agent: 1 / 0)
    installed("agent", "add", "a", "--type", "cliplugins:CountingAgent")

    assert main(["agent", "list", "-v"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupting_is_130(installed, monkeypatch):
    def interrupted(status):
        raise KeyboardInterrupt

    monkeypatch.setattr("livesync.cli.status._track", interrupted)

    answer = installed("status")

    assert answer.code == 130
    assert answer.err == "livesync: interrupted\n"


def test_a_command_without_a_database_says_how_to_name_one(cli, monkeypatch):
    monkeypatch.delenv("LIVESYNC_DB")

    for command in (["status"], ["list"], ["install"], ["agent", "list"], ["prune"], ["destroy", "--yes"]):
        answer = cli(*command)
        assert answer.code == 2
        assert "LIVESYNC_DB" in answer.err


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["list"],
        ["upgrade"],
        ["adopt", "--site", "x"],
        ["destroy", "--yes"],
        ["prune"],
        ["agent", "list"],
        ["agent", "show", "a"],
        ["agent", "edit", "a", "--name", "b"],
        ["agent", "remove", "a"],
        ["agent", "activate", "a"],
        ["agent", "pause", "a"],
        ["agent", "rewind", "a", "--to", "1"],
        ["agent", "add_task", "a", "--off"],
        ["agent", "enqueue", "a", "x"],
        ["agent", "export", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "verify", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "repair", "a", "--host", "cliplugins:ShelfHost"],
        ["dead", "list"],
        ["dead", "show", "a", "x"],
        ["dead", "retry", "a", "--all", "--host", "cliplugins:ShelfHost"],
        ["dead", "discard", "a", "--all"],
        ["forget", "x"],
        ["agent", "add", "a", "--type", "cliplugins:CountingAgent"],
    ],
)
def test_a_database_that_is_missing_is_never_made_by_mistake(cli, data, command):
    answer = cli(*command)

    assert answer.code == 4
    assert len(answer.err.splitlines()) == 1
    assert not data.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["upgrade"],
        ["adopt", "--site", "x"],
        ["prune"],
        ["agent", "edit", "a", "--name", "b"],
        ["agent", "pause", "a"],
        ["run", "--host", "cliplugins:ShelfHost"],
        ["install"],
        ["agent", "enqueue", "a", "x"],
        ["agent", "export", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "export", "a", "--id", "x", "--host", "cliplugins:ShelfHost"],
        ["agent", "repair", "a", "--host", "cliplugins:ShelfHost"],
        ["dead", "retry", "a", "--all", "--host", "cliplugins:ShelfHost"],
        ["dead", "discard", "a", "--all"],
        ["forget", "x"],
    ],
)
def test_a_writing_command_on_a_file_that_is_open_elsewhere_says_the_three_ways_out(
    installed, locked, command
):
    locked()

    answer = installed(*command)

    assert answer.code == 5
    assert "livesync.runner = thread" in answer.err
    assert "ZEO" in answer.err
    assert "stop that process" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["list"], ["status"], ["agent", "list"], ["agent", "types"], ["doctor"], ["dead", "list"]]
)
def test_a_reading_command_works_while_another_process_has_the_file_open(installed, locked, command):
    locked()

    assert installed(*command, "--host", "cliplugins:ShelfHost").code == 0


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["list"],
        ["upgrade"],
        ["adopt", "--site", "x"],
        ["destroy", "--yes"],
        ["prune"],
        ["run", "--host", "cliplugins:ShelfHost"],
        ["agent", "list"],
        ["agent", "show", "a"],
        ["agent", "run", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "enqueue", "a", "x"],
        ["agent", "export", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "export", "a", "--to", "files", "--host", "cliplugins:ShelfHost"],
        ["agent", "verify", "a", "--host", "cliplugins:ShelfHost"],
        ["agent", "repair", "a", "--host", "cliplugins:ShelfHost"],
        ["dead", "list"],
        ["dead", "show", "a", "x"],
        ["dead", "retry", "a", "x", "--host", "cliplugins:ShelfHost"],
        ["dead", "discard", "a", "x"],
        ["forget", "x"],
    ],
)
def test_where_nothing_is_installed_it_is_said(installed, data, command):
    assert installed("destroy", "--yes").code == 0

    answer = installed(*command)

    assert answer.code == 11
    assert "livesync" in answer.err


def test_data_of_a_newer_version_are_refused(installed, change):
    change(lambda root: setattr(root["livesync"], "schema", 999))

    for command in (["status"], ["upgrade"], ["agent", "list"], ["prune"]):
        answer = installed(*command)
        assert answer.code == 12
        assert "999" in answer.err


def livesync_process(*arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "livesync", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def test_as_a_module_it_is_the_same_command(installed):
    with livesync_process("status") as process:
        out, err = process.communicate(timeout=LONG_S)

    assert process.returncode == 0
    assert "sealed:" in out
    assert err == ""


def test_a_reader_that_has_had_enough_is_no_error(installed, change):
    from livesync.action import ActionWrapper

    def fill(root):
        manager = root["livesync"]
        for position in range(1, 20000):
            manager.add(position, ActionWrapper(position, f"object {position}", ["created"]))

    change(fill)

    with livesync_process("list") as process:
        assert process.stdout.readline().startswith("19999 ")
        process.stdout.close()
        err = process.stderr.read()

    assert err == ""
    assert process.returncode == 0


def test_the_parser_imports_the_standard_library_only():
    script = (
        "import sys; from livesync.cli.parser import build_parser, group_parsers; build_parser();"
        "from livesync.cli import manual; list(group_parsers());"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " {'ZODB', 'BTrees', 'persistent', 'transaction', 'zodburi', 'ZEO', 'rich', 'msgspec', 'requests'}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG_S)

    assert done.stdout.strip() == "[]", done.stderr


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "livesync", "--help"],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        env={**os.environ, "COLUMNS": "80"},
    )

    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {
        "ZODB",
        "BTrees",
        "persistent",
        "transaction",
        "zodburi",
        "rich",
        "msgspec",
        "requests",
    }


def test_asking_a_run_to_end_is_heard_and_the_handlers_come_back():
    from livesync.cli.signals import stopping

    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGTERM) is before
