"""Processes that end in the middle of their work, as ``kill -9`` ends them."""

import os
import signal
from functools import partial

from ZODB.FileStorage import FileStorage


class Fuse:
    """Kills this process at a step, counted from 1; a commit to one of its storages is a step.

    It does so just before the step is done where its number is odd, and just after it where it is even.

    Args:
        steps: The step; 0: never.
        is_lit: Count from now on, not only from :meth:`light` on.
    """

    def __init__(self, steps, is_lit=True):
        self._steps = steps
        self._left = steps if is_lit else 0

    def light(self):
        """Count from now on."""
        self._left = self._steps

    def step(self, work=lambda: None):
        """Return what ``work()`` returns."""
        self._left -= 1
        if self._left == 0 and self._steps % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = work()
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def storage(self, path):
        """Return a FileStorage whose commits are steps."""
        return _Storage(self, path)


class _Storage(FileStorage):
    def __init__(self, fuse, path):
        self._fuse = fuse
        super().__init__(path)

    def tpc_finish(self, *arguments):
        return self._fuse.step(partial(super().tpc_finish, *arguments))
