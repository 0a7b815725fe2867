"""Versions of documents: the graph, what a version changed, and a document's past."""

from __future__ import annotations

from pyramid.request import Request
from pyramid.response import Response

from .. import operations
from .forms import Field
from .frame import Page
from .listing import cursor_of


def history_page(request: Request) -> Response:
    """Show the versions of a collection as a graph, the newest first."""
    collections = operations.list_collections(request.livesync).collections
    page = Page(request, "History", "history")
    if not collections:
        return page.response("history.html", collection="", of=[], versions=[], picker=None)
    name = request.GET.get("collection") or collections[0]
    cursor = cursor_of(request)
    found = operations.list_versions(request.livesync, name, cursor)
    choices = tuple((one, one, "") for one in collections)
    return page.response(
        "history.html",
        collection=name,
        of=found.of,
        versions=found.versions,
        picker=Field("collection", "Collection", name, "select", choices=choices),
        older=found.next and page.url("history", collection=name, **{"from": found.next}),
        newest=cursor and page.url("history", collection=name),
    )


def version_page(request: Request) -> Response:
    """Show a version and what it changed."""
    name = request.GET.get("collection", "")
    found = operations.show_version(request.livesync, name, request.matchdict["version"])
    page = Page(request, f"Version {found.version.name or found.version.id[:12]}", "history")
    page.crumbs = (("History", page.url("history", collection=name)),)
    return page.response("version.html", collection=name, found=found, version=found.version)


def document_page(request: Request) -> Response:
    """Show the versions that changed a document, each with what it changed."""
    name, document_id = request.GET.get("collection", ""), request.GET.get("document", "")
    cursor = cursor_of(request)
    found = operations.show_document(request.livesync, name, document_id, cursor)
    page = Page(request, f"History of {document_id}", "history")
    page.crumbs = (("History", page.url("history", collection=name)),)
    here = {"collection": name, "document": document_id}
    return page.response(
        "document_history.html",
        collection=name,
        document_id=document_id,
        versions=found.versions,
        older=found.next and page.url("document-history", **here, **{"from": found.next}),
        newest=cursor and page.url("document-history", **here),
    )
