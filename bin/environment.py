"""Make, or bring up to date, a private virtual environment with this checkout in it; print its Python's path.

``python bin/environment.py NAME [EXTRA [CONSTRAINTS]]`` works in ``.venv/NAME`` beside this directory: it
installs ``.[EXTRA]`` there, editable, in the versions that the checkout's file CONSTRAINTS names. What it
does goes to standard error. It needs the standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent

#: A change of one of these changes what has to be installed; the code itself is used where it lies.
SOURCES = ("pyproject.toml", "setup.py", "livesync/__init__.py")


def main(name: str, extra: str = "", constraints: str = "") -> int:
    """Print the path of the environment's Python."""
    directory = CHECKOUT / ".venv" / name
    directory.parent.mkdir(exist_ok=True)
    with locked(directory.parent / f"{name}.lock"):
        python = directory / "bin" / "python"
        stamp = directory / "up-to-date"
        wanted = fingerprint(extra, constraints)
        if not (python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted):
            make(directory, python, extra, constraints)
            stamp.write_text(wanted, "utf-8")
    print(python)
    return 0


def fingerprint(extra: str, constraints: str) -> str:
    """Return what changes whenever the environment has to be made anew."""
    files = (*SOURCES, constraints) if constraints else SOURCES
    parts = [sys.version, str(CHECKOUT), extra, *((CHECKOUT / name).read_text("utf-8") for name in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others that make the same environment out for as long as the context lasts."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(directory: Path, python: Path, extra: str, constraints: str) -> None:
    """Make the environment and install the checkout with ``extra`` into it."""
    began = time.monotonic()
    shown = directory.relative_to(CHECKOUT)
    say(f"making the environment {shown} (once; what it needs is downloaded)")
    shutil.rmtree(directory, ignore_errors=True)
    pip = [str(python), "-m", "pip"]
    try:
        venv.create(directory, with_pip=True)
    except (subprocess.CalledProcessError, OSError):
        # Debian puts ensurepip into a package of its own; a pip of this Python does as well.
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=False)
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    target = f"{CHECKOUT}[{extra}]" if extra else str(CHECKOUT)
    # Of all that is installed little is ever imported: that is compiled when it first is.
    options = ["-qq", "--disable-pip-version-check", "--no-input", "--no-compile"]
    if constraints:
        options += ["-c", str(CHECKOUT / constraints)]
    # Standard output is this script's answer, so pip talks on standard error.
    done = subprocess.run([*pip, "install", *options, "-e", target], stdout=sys.stderr, check=False)  # noqa: S603
    if done.returncode:
        fail(f"pip could not install livesync into {shown}; its message stands above")
    say(f"{shown} is ready after {time.monotonic() - began:.0f} s")


def say(text: str) -> None:
    """Print a line on standard error."""
    print(f"bin: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """End with a message."""
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
