"""What all requests over HTTP have in common, to services and to peers."""

from __future__ import annotations

import ssl

import requests


class NoAuth(requests.auth.AuthBase):
    """Sends nothing, and keeps requests from looking for a password in ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def system_error(exc: BaseException) -> OSError | None:
    """Return the error of the system or of TLS that lies below ``exc``, None if there is none."""
    seen: list[BaseException] = [exc]
    for error in seen:
        if isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and error.errno is not None):
            return error
        below = (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
        seen += (other for other in below if isinstance(other, BaseException) and other not in seen)
    return None
