"""What a check of ``livesync doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass

from .exitcodes import ExitCode
from .failures import Failure


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        subject: What was looked at.
        text: What was found and, if it is a problem, what to do.
        code: OK, or the exit code of the problem.
    """

    subject: str
    text: str
    code: ExitCode = ExitCode.OK

    @classmethod
    def problem(cls, subject: str, error: BaseException, db: str = "") -> Finding:
        """Return the finding for what a check raised."""
        failure = Failure.of(error, db)
        return cls(subject, failure.message, failure.code)
