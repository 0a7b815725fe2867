"""The documentation says what the code does: commands, exit codes, options, words; and it builds."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from livesync.agent import COMMON_OPTIONS, agent_types, load_agent_type
from livesync.cli.exitcodes import MEANINGS, ExitCode
from livesync.delivery.uploader import RecordUploader
from livesync.manager import SyncManager

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.rst"))}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
AGENT_TYPES = sorted(PROJECT["entry-points"]["livesync.agents"])
#: Those that upload documents; a peer agent exchanges items with another node.
DESTINATIONS = [name for name in AGENT_TYPES if name != "peer"]
TEXTS = PAGES | {name: (CHECKOUT / name).read_text("utf-8") for name in ("README.md", "CHANGELOG.md")}


def load_rendering():
    spec = importlib.util.spec_from_file_location("rendering", DOCS / "_ext" / "rendering.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rendering = load_rendering()
COMMANDS = {
    name: parser
    for name, parser in rendering.commands()
    if not any(other.startswith(f"{name} ") for other, _ in rendering.commands())
}


REFERENCE = rendering.command_reference()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown_in_use(command):
    shown = re.compile(rf"(?<![\w-]){re.escape(command)}(?![\w-])")

    assert any(shown.search(" ".join(text.split())) for text in PAGES.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference_with_its_options(command):
    begin = REFERENCE.index(command)
    rest = range(begin + 1, len(REFERENCE))
    end = next((n for n in rest if REFERENCE[n].startswith(".. _")), len(REFERENCE))
    section = "\n".join(REFERENCE[begin:end])

    for option in re.findall(r"--[\w-]+", COMMANDS[command].format_usage()):
        assert option in section


def test_documentation_uses_no_command_that_is_not_there():
    groups = {name.rsplit(" ", depth)[0] for name in COMMANDS for depth in range(1, name.count(" ") + 1)}
    word = r"(\w[\w-]*)"
    use = re.compile(rf"(?:^\s*\$ |`)livesync (?:--db \S+ )?{word}(?: {word})?(?: {word})?", re.MULTILINE)
    named = {match for text in TEXTS.values() for match in use.findall(text)}

    used = set()
    for words in named:
        command = "livesync"
        for word in words:
            if command in groups:
                command += f" {word}"
        used.add(command)

    assert used
    assert used <= COMMANDS.keys()


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_exit_codes_are_those_of_the_command_line(code):
    text = "\n".join(rendering.exit_code_reference())

    assert f"   * - {code.value}\n     - {code.name}\n     - {MEANINGS[code].replace('`', '``')}" in text


def test_exit_codes_named_in_the_text_are_right():
    named = {
        (int(number), name)
        for text in TEXTS.values()
        for number, name in re.findall(r"exit\s+code\s+(\d+),\s+([A-Z_]+)", text)
    }

    assert named
    assert named <= {(code.value, code.name) for code in ExitCode}


@pytest.mark.parametrize("name", AGENT_TYPES)
def test_agent_types_are_in_the_reference_with_all_their_options(name):
    lines = rendering.agent_reference()
    begin = lines.index(name)
    end = next((n for n in range(begin + 2, len(lines)) if re.fullmatch("-+", lines[n])), len(lines))
    section = "\n".join(lines[begin:end])

    assert name in agent_types()
    for option in load_agent_type(name).declared_options():
        assert f"``{option.name}``" in section


@pytest.mark.parametrize("name", DESTINATIONS)
def test_what_a_destination_can_do_is_in_the_table(name):
    rows = re.findall(r"^   \* - (.+)\n((?:     - .+\n){7})", PAGES["howto/destinations.rst"], re.MULTILINE)
    cells = {title: re.findall("- (.+)", row) for title, row in rows}
    columns = [cell.lower() for cell in cells["Type"]]
    said = dict(zip(columns, (cell.startswith("yes") for cell in cells[f"``{name}``"]), strict=True))

    uploader = load_agent_type(name).uploader

    assert said["keeps the pointer"] == uploader.keeps_pointer
    assert said["verify"] == uploader.readable
    assert said["sweep"] == (uploader.sweep is not RecordUploader.sweep)
    assert said["files"] == uploader.takes_files
    assert said["in flight"] == uploader.concurrent
    assert said["rebuild"] == uploader.rebuilds


def test_every_destination_has_a_page_or_a_section():
    for name in DESTINATIONS:
        assert f"howto/{name}.rst" in PAGES or f"\n{name}" in PAGES["howto/destinations.rst"]


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("whsec_ and the rest", r"whsec\_ and the rest"),
        ("of metadata and custom_fields", r"of metadata and custom\_fields"),
        ("http:// with a host: like this", r"http\:// with a host: like this"),
        ("all * of |them| \\", r"all \* of \|them\| \\"),
        ("see `livesync agent add_task`, or `a*b`", "see ``livesync agent add_task``, or ``a*b``"),
    ],
)
def test_help_texts_are_shown_as_they_are(text, markup):
    assert rendering._text(text) == markup


def test_options_that_everybody_has_are_explained():
    for option in COMMON_OPTIONS:
        assert f"``{option.name}``" in PAGES["howto/agent.rst"]


@pytest.mark.parametrize(
    "word",
    [
        "acknowledge", "action", "ActionWrapper", "audience", "backfill", "batch", "dead letter", "entry",
        "fence", "granularity", "inbox", "lag", "lane", "lease", "ledger", "pointer", "position", "prune",
        "reader", "rebuild", "record", "retention", "rewind", "runner", "seal", "slice", "slow queue",
        "certificate", "filter", "nonce", "partition", "profile", "provider", "revocation", "scope",
        "token", "tombstone", "track", "transform", "verdict", "verify",
    ],
)  # fmt: skip
def test_word_is_in_the_glossary(word):
    assert f"\n   {word}\n" in PAGES["glossary.rst"]


def test_guarantees_are_numbered_and_each_says_how_or_not_yet():
    sections = re.split(r"^(\d+)\. .+\n-+\n", PAGES["guarantees.rst"], flags=re.MULTILINE)[1:]
    numbered = dict(zip(map(int, sections[::2]), sections[1::2], strict=True))

    assert list(numbered) == list(range(1, 16))
    for text in numbered.values():
        assert "*Not yet*" in text or "*Not yet.*" in text or ("*How:*" in text and "*Tests:*" in text)


def test_dependencies_are_all_explained():
    for requirement in PROJECT["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        assert f"\n   * - {name}\n" in PAGES["dependencies.rst"]


def test_extras_are_all_explained():
    for extra in set(PROJECT["optional-dependencies"]) - {"all", "dev", "test", "plone-test"}:
        assert f"\n   * - ``[{extra}]``\n" in PAGES["dependencies.rst"]
        assert f"`{extra}`" in TEXTS["README.md"]


def test_states_are_all_explained():
    from livesync.agent import State, StopReason

    for state in State:
        assert f"``{state.value}" in PAGES["howto/operate.rst"]
    for reason in StopReason:
        assert f"``stopped: {reason.value}``" in PAGES["howto/operate.rst"]


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_named_are_there(name):
    for path in re.findall(r"``?((?:tests|livesync|docs|bin)/[\w./-]*)``?", TEXTS[name]):
        assert (CHECKOUT / path).exists() or path == "docs/_build"


@pytest.mark.parametrize("name", TEXTS)
def test_names_no_place_of_somebodys_machine(name):
    assert not re.search(r"/(?:work|root|opt|home|Users|tmp)/", TEXTS[name])


def typed(page):
    """Return the console lines of a page as a script; ``> `` goes on with the line before."""
    script = []
    for line in page.splitlines():
        match = re.match(r"   (?:\$|(>)) (.*)", line)
        if match:
            script.append(match[2])
    return script


@pytest.mark.slow
def test_tutorial_works_as_printed(tmp_path):
    script = typed(PAGES["tutorial.rst"])
    assert script[:3] == ["python3 -m venv ~/try && . ~/try/bin/activate", "pip install .",
                          "mkdir ~/catalogue && cd ~/catalogue"]  # fmt: skip
    # destroy asks, and here is nobody to answer
    lines = [re.sub(r"^livesync destroy$", "livesync destroy --yes", line) for line in script[3:]]
    names = {"python": "", "livesync": " -m livesync"}
    functions = [f'{name}() {{ "{sys.executable}"{module} "$@"; }}' for name, module in names.items()]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LIVESYNC_")}

    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -eu -o pipefail", *functions, *lines])],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "the same, byte for byte" in done.stdout
    damaged, mended = done.stdout.split("there are differences\n")
    assert re.search(r" [1-9]\d* missing, ", damaged.splitlines()[-1])
    assert " 0 missing, 0 stale, 0 orphaned" in mended
    assert "livesync is removed" in done.stdout


@pytest.mark.slow
def test_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]

    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "html" / "reference" / "api.html").read_text("utf-8")
    assert all(name in text for name in vars(SyncManager) if not name.startswith("_") and name.islower())


@pytest.mark.parametrize(("page", "least"), [("features.rst", 81), ("design/replication.rst", 50)])
def test_every_test_that_a_page_names_is_there(page, least):
    named = re.findall(r"``(tests/[\w/]+\.py)::(\w+)``", PAGES[page])
    missing = [
        f"{path}::{name}"
        for path, name in named
        if f"def {name}(" not in (DOCS.parent / path).read_text("utf-8")
    ]

    assert len(named) >= least
    assert missing == []


def test_every_feature_has_a_test_or_says_why_not():
    row = r"^   \* - (\d+)\n     - .*\n     - (.*(?:\n       .*)*)\n     -(.*)$"
    rows = re.findall(row, PAGES["features.rst"], re.MULTILINE)

    assert [int(number) for number, _, _ in rows] == [*range(1, 70), *range(1, 16)]
    assert [number for number, says, shown in rows if not shown.strip() and "not yet" not in says] == []
