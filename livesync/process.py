"""Which process this is, and whether another one of this machine is still alive."""

from __future__ import annotations

import os
import socket

#: ``(host name, process id, start of the process in clock ticks since boot; 0 where unknown)``
ProcessIdentity = tuple[str, int, int]


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return socket.gethostname(), pid, _started(pid)


def is_dead(process: ProcessIdentity) -> bool:
    """Tell whether a process is known to be gone: False for one of another host, where nobody can tell."""
    host, pid, started = process
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # Process ids are used again: another start time is another process. One that has ended and that its
    # parent has not asked about is there still, and does nothing any more.
    return (bool(started) and _started(pid) not in (0, started)) or _stat(pid)[:1] in ([b"Z"], [b"X"])


def _started(pid: int) -> int:
    try:
        return int(_stat(pid)[19])
    except (ValueError, IndexError):
        return 0


def _stat(pid: int) -> list[bytes]:
    """Return what the system says of a process, from its state on; nothing where it says nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # the command's name, in parentheses, may hold anything
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []
