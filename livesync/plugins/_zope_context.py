"""What Zope's code needs around it when no request is under way: an application, a request, a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from ..errors import HostFailed


def main_connection(connection: Any) -> Any:
    """Return the connection through which Zope's root is reached: to the main one of its databases.

    A part of the site may be mounted from another database; it has its users, its catalogue and its
    parents in the main one. Both connections read the same snapshot, in one transaction.
    """
    databases = connection.db().databases or {}
    for name in _main_names(databases):
        if name in databases and databases[name] is not connection.db():
            return connection.get_connection(name)
    return connection


def _main_names(databases: Any) -> Iterator[str]:
    import Zope2

    opened = getattr(Zope2, "DB", None)
    yield from (name for name, database in databases.items() if database is opened)
    yield "main"  # as zope.conf calls it


@contextmanager
def application(connection: Any) -> Iterator[Any]:
    """Give Zope's application object, read through ``connection``, to code that expects a request.

    For the time of the ``with`` block this thread has a request, the system user's security manager (which
    may see everything) and no site; afterwards what it had before.

    Raises:
        HostFailed: This is no database of a Zope.
    """
    from AccessControl.SecurityManagement import getSecurityManager, newSecurityManager, setSecurityManager
    from AccessControl.SpecialUsers import system
    from zope.component.hooks import getSite, setSite
    from zope.globalrequest import getRequest, setRequest

    root = main_connection(connection).root()
    if "Application" not in root:
        raise HostFailed("this is the database of another application: it has no Zope in it")
    user, site, request = getSecurityManager(), getSite(), getRequest()
    app = _with_request(root["Application"])
    try:
        setRequest(app.REQUEST)
        setSite(None)
        newSecurityManager(None, system)
        yield app
    finally:
        setSecurityManager(user)
        setSite(site)
        setRequest(request)
        app.REQUEST.close()


def _with_request(root: Any) -> Any:
    """Return an application object in a request of its own: nobody's, of no published object."""
    from zope.publisher.browser import setDefaultSkin
    from ZPublisher.BaseRequest import RequestContainer
    from ZPublisher.HTTPRequest import HTTPRequest
    from ZPublisher.HTTPResponse import HTTPResponse

    environment = {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REQUEST_METHOD": "GET"}
    request = HTTPRequest(BytesIO(), environment, HTTPResponse(stdout=BytesIO()))
    request["ACTUAL_URL"] = request.get("URL")
    setDefaultSkin(request)
    app = root.__of__(RequestContainer(REQUEST=request))
    request["PARENTS"] = [app]
    return app
