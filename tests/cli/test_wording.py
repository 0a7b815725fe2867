"""Numbers and their words: one action, two actions."""

import ast
import re
from pathlib import Path

import pytest

import livesync
from livesync.words import plural

PACKAGE = Path(livesync.__file__).parent
COMMANDS = PACKAGE / "cli"

#: Words that stand after a number and end in s, and are the same for one.
SAME = {"as", "is", "was", "this"}


def texts(path):
    """Yield the strings of a module with ``{}`` where a number with a format stands in them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "{}" if part.format_spec else "{text}"
                for part in node.values
            )


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.stem)
def test_no_number_stands_before_a_word_that_is_wrong_for_one(path):
    found = [
        text
        for text in texts(path)
        for word in re.findall(r"\{\} (?:\w+ )?(\w+s)\b", text)
        if word not in SAME
    ]

    assert found == []


#: What is counted in sentences, besides those of commands.
COUNTED = {"actions", "documents", "objects", "records", "versions"}


def sentences(path):
    """Yield the strings of a module with ``{}`` where anything but a constant stands in them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value
                if isinstance(part, ast.Constant)
                else "{constant}"
                if ast.unparse(part.value).rpartition(".")[2].isupper()
                else "{}"
                for part in node.values
            )


def test_no_sentence_of_the_package_counts_one_as_many():
    found = [
        (path.name, text)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "demo"  # which counts what it has made itself
        for text in sentences(path)
        if COUNTED.intersection(re.findall(r"\{\} (\w+)", text))
    ]

    assert found == []


def test_one_is_told_apart_from_none_and_many():
    assert [plural(count, "action") for count in (0, 1, 2, 1234)] == [
        "0 actions", "1 action", "2 actions", "1,234 actions"
    ]  # fmt: skip
    assert plural(1, "object is", "objects are") == "1 object is"
    assert plural(2, "object is", "objects are") == "2 objects are"
