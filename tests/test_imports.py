"""Public names of packages are loaded at their first use; what settings name is imported by its name."""

import importlib
import subprocess
import sys

import pytest
from support.waiting import LONG_S

from livesync.imports import at_first_use, import_object

PACKAGES = ["livesync", "livesync.peering", "livesync.replication", "livesync.versions"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there_and_of_the_module_that_it_is_said_to_be_of(name):
    package = importlib.import_module(name)

    assert set(package._HOMES) == set(package.__all__) - {"__version__"}
    assert set(package.__all__) <= set(dir(package))
    for public, home in package._HOMES.items():
        assert getattr(package, public) is getattr(importlib.import_module(f"{name}.{home}"), public)
        assert public in vars(package)  # once it was loaded nobody asks again


@pytest.mark.parametrize("name", PACKAGES)
def test_what_there_is_not_is_an_attribute_error_as_anywhere(name):
    package = importlib.import_module(name)

    with pytest.raises(AttributeError, match=rf"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {name} import nothing")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_alone_loads_nothing_of_a_database(name):
    script = f"import sys, {name}; print(len({{'ZODB', 'BTrees', 'persistent'}} & {{*sys.modules}}))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG_S)

    assert done.stdout.strip() == "0", done.stderr


def test_a_name_is_loaded_once():
    namespace = {"there": 1}
    load, names = at_first_use("json", {"JSONDecoder": "decoder"}, namespace)

    assert names() == ["JSONDecoder", "there"]
    loaded = load("JSONDecoder")
    assert loaded is namespace["JSONDecoder"] is importlib.import_module("json.decoder").JSONDecoder
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'there'"):
        load("there")


def test_what_settings_name_is_imported_and_what_is_not_there_is_one_line():
    assert import_object("json:decoder.JSONDecoder") is importlib.import_module("json").JSONDecoder
    for reference in ("json:nothing", "nowhere.at.all:x", "json"):
        with pytest.raises(ImportError) as caught:
            import_object(reference)
        assert len(str(caught.value).splitlines()) == 1
