"""The pages: a folder with its forms, a note with its own, and the search."""

from pyramid.httpexceptions import HTTPBadRequest, HTTPSeeOther
from pyramid.view import view_config, view_defaults

from .models import Entry, Folder, Note
from .search import search

LONGEST_TITLE = 200


def _title(request):
    title = request.POST.get("title", "").strip()
    if not 1 <= len(title) <= LONGEST_TITLE:
        raise HTTPBadRequest(f"a title has 1 to {LONGEST_TITLE} characters")
    return title


def _to(request, entry):
    return HTTPSeeOther(request.resource_url(entry))


@view_defaults(context=Folder)
class FolderViews:
    def __init__(self, request):
        self.request, self.folder = request, request.context

    @view_config(request_method="GET", renderer="templates/folder.jinja2")
    def show(self):
        return {"folder": self.folder, "Folder": Folder}

    @view_config(name="add-note", request_method="POST")
    def add_note(self):
        note = Note(_title(self.request))
        note.text = self.request.POST.get("text", "")
        note.is_draft = "draft" in self.request.POST
        return _to(self.request, self.folder.add(note))

    @view_config(name="add-folder", request_method="POST")
    def add_folder(self):
        return _to(self.request, self.folder.add(Folder(_title(self.request))))


@view_config(context=Note, request_method="GET", renderer="templates/note.jinja2")
def show_note(request):
    return {"note": request.context}


@view_config(context=Note, name="edit", request_method="POST")
def edit_note(request):
    request.context.edit(title=_title(request), text=request.POST.get("text", ""))
    return _to(request, request.context)


@view_config(context=Folder, name="edit", request_method="POST")
def edit_folder(request):
    request.context.edit(title=_title(request))
    return _to(request, request.context)


@view_config(context=Entry, name="draft", request_method="POST")
def set_draft(request):
    request.context.set_draft("draft" in request.POST)
    return _to(request, request.context)


@view_config(context=Entry, name="move", request_method="POST")
def move(request):
    target = request.root.by_uid.get(request.POST.get("to", ""), request.root)
    if request.context is request.root or not isinstance(target, Folder):
        raise HTTPBadRequest("this cannot be moved there")
    try:
        target.move_here(request.context)
    except ValueError as exc:
        raise HTTPBadRequest(str(exc)) from exc
    return _to(request, request.context)


@view_config(context=Entry, name="remove", request_method="POST")
def remove(request):
    parent = request.context.__parent__
    if parent is None:
        raise HTTPBadRequest("the notebook itself stays")
    parent.remove(request.context.__name__)
    return _to(request, parent)


@view_config(name="search", request_method="GET", renderer="templates/search.jinja2")
def find(request):
    words = request.GET.get("q", "")
    return {"words": words, "found": search(request.registry.settings["notes.index"], words)}
