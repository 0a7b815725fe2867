"""An exception as a command reports it: one line and an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..database import without_secrets
from .exitcodes import ExitCode, code_of, is_storage_error


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, for people and for programs.

    Attributes:
        code: The exit code.
        message: One line; it holds no password.
    """

    code: ExitCode
    message: str

    @classmethod
    def of(cls, error: BaseException, db: str = "") -> Failure:
        """Return what ``error`` comes to; ``db`` is the database's URI, whose password is left out."""
        code = code_of(error)
        text = " ".join(str(error).split())
        kind = type(error).__name__
        if code is ExitCode.INTERRUPTED:
            text = "interrupted"
        elif code is ExitCode.INTERNAL:
            text = f"unexpected {kind}: {text} (run with -v to see where)"
        elif is_storage_error(error):
            text = f"the database: {kind}: {text}"
        return cls(code, without_secrets(text or kind, db))

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {"code": int(self.code), "name": self.code.name, "message": self.message}
