"""A real Plone, driven from outside: over its REST API, its classic forms, and scripts in its process.

The tests run in the environment of all others; Plone has one of its own (``bin/plone``), since it brings
along some 250 packages. It is made at the first use, which takes minutes.
"""

import pytest
from support import plone_service


@pytest.fixture(scope="session")
def plone_python():
    """The path of a Python that has Plone and this checkout."""
    return plone_service.find_python()


@pytest.fixture(scope="session")
def template(plone_python, tmp_path_factory):
    """An instance with an empty Plone site, to be copied; nothing runs there."""
    return plone_service.make_template(plone_python, tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def reader(plone_python):
    """Reads databases as another process does, while Zope has them open."""
    with plone_service.Reader(plone_python) as found:
        yield found


@pytest.fixture(scope="module")
def plone(plone_python, template, reader, tmp_path_factory):
    """A running Plone with a runner in its process, and an active agent that fills an SQLite index."""
    with plone_service.started(plone_python, template, reader, tmp_path_factory.mktemp("plone")) as found:
        yield found
