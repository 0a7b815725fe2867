"""Typed JSON: what is decoded, and that the first to do so may be several threads."""

import subprocess
import sys

import msgspec
import pytest
from support.waiting import LONG_S

from livesync.forms import converted, decode_json

#: Structs are new to each round, so that each has a first time; threads change places all the time.
THREADS = """
import sys, threading
import msgspec
from livesync.forms import converted, decode_json

SOURCE = '''
class A(msgspec.Struct):
    x: int = 0
    y: str | None = None

class B(msgspec.Struct):
    a: A | None = None
    b: list[A] = []
    c: dict[str, A] = {}

class C(msgspec.Struct):
    i: str
    b: B | None = None
    z: list[B] = []
'''
BODY = b'{"i":"x","b":{"a":{"x":1},"b":[{"x":2}]},"z":[{}]}'

sys.setswitchinterval(1e-6)
for _ in range(100):
    names = {"msgspec": msgspec, "__name__": "__main__"}
    exec(SOURCE, names)
    go = threading.Barrier(4)
    found = []

    def read(form, go=go, found=found):
        go.wait()
        found.append(decode_json(BODY, form) == converted(msgspec.json.decode(BODY), form))

    threads = [threading.Thread(target=read, args=(names["C"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4, found
print("all decoded")
"""


class Inner(msgspec.Struct):
    number: int


class Outer(msgspec.Struct):
    items: list[Inner]


def test_json_becomes_a_value_of_the_form():
    expected = Outer([Inner(1), Inner(2)])

    assert decode_json(b'{"items":[{"number":1},{"number":2,"more":null}]}', Outer) == expected
    assert converted({"items": [{"number": 1}, {"number": 2}]}, Outer) == expected
    assert decode_json(b'{"a":{"number":3}}', dict[str, Inner]) == {"a": Inner(3)}


def test_what_is_of_another_form_is_refused():
    with pytest.raises(msgspec.ValidationError):
        decode_json(b'{"items":[{"number":"one"}]}', Outer)
    with pytest.raises(msgspec.ValidationError):
        converted({"items": 1}, Outer)
    with pytest.raises(msgspec.DecodeError):
        decode_json(b"<html>", Outer)


def test_threads_that_decode_a_form_for_the_first_time_at_once_do_not_end_the_process():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, timeout=LONG_S)

    assert (done.returncode, done.stdout) == (0, "all decoded\n"), done.stderr
