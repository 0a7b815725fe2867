"""Who may see what in Plone: what an audience is, and which permissions it has on an object.

An audience is ``public`` (everybody, not logged in), ``role:NAME`` (somebody with this role everywhere),
``group:ID`` or ``user:ID``. What counts is the permission on the object itself, as Plone's publisher has it:
a published page is public in a private folder too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..errors import HostFailed
from ..host import PUBLIC

#: The permission without which an object is excluded.
VIEW: Final = "View"

_ANONYMOUS: Final = "Anonymous"
_AUTHENTICATED: Final = "Authenticated"


@dataclass(frozen=True, slots=True)
class Audience:
    """An audience as Zope's security knows it.

    Attributes:
        roles: What it has everywhere.
        principals: Ids of users and groups whose local roles it has.
    """

    roles: frozenset[str]
    principals: frozenset[str] = frozenset()

    def may(self, permission: str, obj: Any) -> bool:
        """Tell whether it has ``permission`` (its title, such as ``View``) on ``obj``."""
        from AccessControl.PermissionRole import rolesForPermissionOn

        allowed = set(rolesForPermissionOn(permission, obj))
        if allowed & self.roles:
            return True
        return bool(self.principals) and any(
            allowed.intersection(roles)
            for principal, roles in _local_roles(obj).items()
            if principal in self.principals
        )


EVERYBODY: Final = Audience(frozenset({_ANONYMOUS}))


def audience_named(name: str, site: Any) -> Audience:
    """Return the audience of this name on a Plone site.

    Raises:
        HostFailed: It has another form, or there is no such role, group or user here.
    """
    if name == PUBLIC:
        return EVERYBODY
    kind, _, which = name.partition(":")
    make = _KINDS.get(kind)
    if make is None or not which:
        raise HostFailed(f"{name!r} is no audience of Plone: it is public, role:NAME, group:ID or user:ID")
    found: Audience | None = make(which, site)
    if found is None:
        raise HostFailed(f"there is no {kind} {which!r} on the site {'/'.join(site.getPhysicalPath())}")
    return found


def _role(name: str, site: Any) -> Audience | None:
    if name not in site.valid_roles():
        return None
    return Audience(frozenset({_ANONYMOUS, _AUTHENTICATED, name}))


def _group(group_id: str, site: Any) -> Audience | None:
    group = site.acl_users.getGroupById(group_id)
    if group is None:
        return None
    return Audience(
        frozenset({_ANONYMOUS, _AUTHENTICATED, *group.getRoles()}),
        frozenset({group_id, "AuthenticatedUsers"}),
    )


def _user(user_id: str, site: Any) -> Audience | None:
    user = site.acl_users.getUserById(user_id)
    if user is None:
        return None
    return Audience(
        frozenset({_ANONYMOUS, _AUTHENTICATED, *user.getRoles()}), frozenset({user_id, *user.getGroups()})
    )


_KINDS: Final = {"role": _role, "group": _group, "user": _user}


def _local_roles(obj: Any) -> dict[str, Any]:
    """Return the local roles on an object, those of its parents included where it inherits them."""
    found: dict[str, Any] = obj.acl_users._getAllLocalRoles(obj)
    return found
