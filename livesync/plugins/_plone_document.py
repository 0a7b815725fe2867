"""The document of a Plone object: what the catalogue knows of it, its searchable text, and its fields.

It says the same whoever asks, whenever: nothing of it comes from other objects, whose changes are not changes
of this one. So references are the ids of what they refer to; links in rich text are kept as Plone stores
them (``resolveuid/…``), and addresses are paths within Zope, not URLs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ._plone_access import Audience

#: Fields of these names stand in the document already, under names that do not depend on a schema.
_TOLD: Final = frozenset(
    {
        "title",
        "description",
        "subjects",
        "creators",
        "contributors",
        "language",
        "rights",
        "effective",
        "expires",
        "changeNote",
        "id",
    }
)

_PLAIN: Final = (bool, int, float, str, bytes, Decimal, UUID)


def document_of(obj: Any, uid: str, audience: Audience, catalog: Any, request: Any) -> dict[str, Any]:
    """Return the document of a content object as ``audience`` may see it.

    Args:
        obj: In its place, in an application with a request.
        uid: Its id.
        audience: Fields that need a permission which this one lacks are left out.
        catalog: ``portal_catalog`` of its site.
        request: For serializers of fields.
    """
    path = "/".join(obj.getPhysicalPath())
    return {
        "uid": uid,
        "path": path,
        "name": obj.getId(),
        "portal_type": obj.portal_type,
        "title": _text(obj.Title()),
        "description": _text(obj.Description()),
        "subjects": sorted(_text(word) for word in obj.Subject()),
        "creators": [_text(name) for name in obj.listCreators()],
        "contributors": [_text(name) for name in obj.listContributors()],
        "language": _text(obj.Language()),
        "rights": _text(obj.Rights()),
        "created": _moment(obj, "creation_date"),
        "modified": _moment(obj, "modification_date"),
        "effective": _moment(obj, "effective_date"),
        "expires": _moment(obj, "expiration_date"),
        **_indexed(obj, catalog),
        "fields": {
            name: _field_value(field, value, obj, request)
            for name, field, value in readable_fields(obj, audience)
            if name not in _TOLD
        },
    }


def _indexed(obj: Any, catalog: Any) -> dict[str, Any]:
    """Return what the catalogue's indexers say, made now: what the catalogue holds may be older."""
    from plone.indexer.interfaces import IIndexableObject
    from zope.component import queryMultiAdapter

    indexable = queryMultiAdapter((obj, catalog), IIndexableObject)
    return {
        "review_state": _text(_called(indexable, "review_state")),
        "is_folderish": bool(_called(indexable, "is_folderish")),
        "text": " ".join(_text(_called(indexable, "SearchableText")).split()),
    }


def _called(indexable: Any, name: str) -> Any:
    value = getattr(indexable, name, None)
    return value() if callable(value) else value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _moment(obj: Any, name: str) -> datetime | None:
    from Acquisition import aq_base

    value = getattr(aq_base(obj), name, None)
    if callable(value):
        value = value()
    if value is None:
        return None
    moment: datetime = value.utcdatetime().replace(tzinfo=timezone.utc)
    return moment


def readable_fields(obj: Any, audience: Audience) -> Iterator[tuple[str, Any, Any]]:
    """Yield ``(name, field, value)`` of what ``audience`` may read; of two fields with one name the first."""
    from plone.autoform.interfaces import READ_PERMISSIONS_KEY
    from plone.dexterity.utils import iterSchemata
    from plone.supermodel.utils import mergedTaggedValueDict
    from zope.schema import getFieldsInOrder

    seen: set[str] = set()
    for schema in iterSchemata(obj):
        needed: Mapping[str, str] = mergedTaggedValueDict(schema, READ_PERMISSIONS_KEY)
        adapted = schema(obj, None)
        if adapted is None:
            continue
        for name, field in getFieldsInOrder(schema):
            if name not in seen and _may_read(audience, needed.get(name), obj):
                seen.add(name)
                yield name, field, getattr(adapted, name, None)


def _may_read(audience: Audience, permission: str | None, obj: Any) -> bool:
    if permission is None:
        return True
    from zope.component import queryUtility
    from zope.security.interfaces import IPermission

    found = queryUtility(IPermission, name=permission)
    return found is not None and audience.may(found.title, obj)


def _field_value(field: Any, value: Any, obj: Any, request: Any) -> Any:
    known, plain = _plain(value)
    return plain if known else _serialized(field, obj, request)


def _plain(value: Any) -> tuple[bool, Any]:
    """Return ``(True, the value as documents have it)``; ``(False, None)`` where its type is unknown here."""
    if value is None or isinstance(value, _PLAIN):
        return True, value
    if isinstance(value, datetime):
        return True, value if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return True, value
    if isinstance(value, Mapping):
        return _all(value.values(), lambda plain: dict(zip(map(str, value), plain, strict=True)))
    if isinstance(value, list | tuple):
        return _all(value, list)
    if isinstance(value, Set):
        return _all(value, lambda plain: sorted(plain, key=str))
    return _of_plone(value)


def _all(values: Any, made: Any) -> tuple[bool, Any]:
    found = [_plain(value) for value in values]
    if not all(known for known, _ in found):
        return False, None
    return True, made([plain for _, plain in found])


def _of_plone(value: Any) -> tuple[bool, Any]:
    """Know the values of Plone's own fields: rich text, files, references to other objects, old dates."""
    from DateTime import DateTime
    from plone.app.textfield.interfaces import IRichTextValue
    from plone.namedfile.interfaces import INamed
    from z3c.relationfield.interfaces import IRelationValue

    if isinstance(value, DateTime):
        return True, value.utcdatetime().replace(tzinfo=timezone.utc)
    if IRichTextValue.providedBy(value):
        return True, {"data": value.raw, "content_type": value.mimeType}
    if INamed.providedBy(value):
        return True, {
            "filename": value.filename,
            "content_type": _text(value.contentType),
            "size": value.getSize(),
        }
    if IRelationValue.providedBy(value):
        return True, None if value.isBroken() else _uid_of(value.to_object)
    return False, None


def _uid_of(obj: Any) -> str | None:
    from plone.uuid.interfaces import IUUID

    found: str | None = IUUID(obj, None)
    return found


def _serialized(field: Any, obj: Any, request: Any) -> Any:
    """Return what plone.restapi's serializer of a field says, for the types of add-ons; None without it."""
    try:
        from plone.restapi.interfaces import IFieldSerializer
    except ImportError:
        return None
    from zope.component import queryMultiAdapter

    serializer = queryMultiAdapter((field, obj, request), IFieldSerializer)
    return None if serializer is None else serializer()
