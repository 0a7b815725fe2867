"""Machines of one network, as far as a test can tell: processes with names, clocks and a way to be cut off.

Where this process may make network namespaces (root, with iproute2), each machine has one of its own, and to
cut it off is to take its link down, so that what it sends is lost and nobody tells it. Elsewhere its
connections go through a relay that falls silent in the same way.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

from support.waiting import LONG_S

_networks = count(1)
Address = tuple[str, int] | str


def has_namespaces() -> bool:
    """Tell whether network namespaces can be made here."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"ls-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made


class Relay:
    """Listens on a TCP port and passes everything on to a server, until it is silenced.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target: Address, host: str = "127.0.0.1") -> None:
        self._target = target
        self._listening = socket.create_server((host, 0))
        self.port: int = self._listening.getsockname()[1]
        self._speaks = threading.Event()
        self._speaks.set()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def silence(self) -> None:
        """Pass nothing on any more, and tell nobody."""
        self._speaks.clear()

    def speak(self) -> None:
        """Pass on what was kept, and what comes."""
        self._speaks.set()

    def close(self) -> None:
        self._over.set()
        self._speaks.set()
        self._listening.close()
        for thread in self._threads:
            thread.join(LONG_S)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            if not select.select([self._listening], [], [], 0.1)[0]:
                continue
            with contextlib.suppress(OSError):
                near, _ = self._listening.accept()
                self._start(self._pass, near)

    def _pass(self, near: socket.socket) -> None:
        family = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        with near, socket.socket(family) as far, contextlib.suppress(OSError):
            far.connect(self._target)
            ends = {near: far, far: near}
            while not self._over.is_set():
                readable = select.select([*ends], [], [], 0.1)[0]
                self._speaks.wait(LONG_S)
                for end in readable:
                    content = end.recv(65_536)
                    if not content:
                        return
                    ends[end].sendall(content)


class Machine:
    """One machine: it starts processes that have its name and clock, and reach the database over its link.

    Args:
        name: Its host name.
        target: Where the database's server listens.
        environment: Of its processes.
        ahead_s: By how much its clock is ahead; seconds.
        namespace: Whether it has a network namespace of its own.
    """

    def __init__(
        self, name: str, target: Address, environment: dict[str, str], ahead_s: float, namespace: bool
    ) -> None:
        self.name = name
        self._environment = {
            **environment, "LIVESYNC_TEST_MACHINE": name, "LIVESYNC_TEST_CLOCK": str(ahead_s)
        }  # fmt: skip
        self._namespace = f"ls-{os.getpid()}-{next(_networks)}" if namespace else ""
        self.processes: list[subprocess.Popen[str]] = []
        #: Where the database is, as this machine's processes see it.
        self.host = "127.0.0.1"
        if self._namespace:
            self._link()
        self.relay = Relay(target, self.host)

    def _link(self) -> None:
        name, number = self._namespace, next(_networks) % 60
        # a network of its own, also where several sessions of tests are at work
        net = f"10.{128 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
        self.host, here = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"
        self._here, there = f"lsa{os.getpid() % 100_000}-{number}", f"lsb{os.getpid() % 100_000}-{number}"
        _ip("netns", "add", name)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", name)
        _ip("addr", "add", f"{self.host}/30", "dev", self._here)
        _ip("link", "set", self._here, "up")
        _ip("-n", name, "addr", "add", f"{here}/30", "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def start(self, script: Path | str, *args: object) -> subprocess.Popen[str]:
        """Start a Python script (or ``-m``, with a module's name after it)."""
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        process = subprocess.Popen(
            [*inside, sys.executable, str(script), *map(str, args)],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def cut(self) -> None:
        """Cut it off: nothing comes through, and nobody is told."""
        if self._namespace:
            _ip("link", "set", self._here, "down")
        else:
            self.relay.silence()

    def mend(self) -> None:
        """Connect it again."""
        if self._namespace:
            _ip("link", "set", self._here, "up")
        else:
            self.relay.speak()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            for stream in process.stdin, process.stdout, process.stderr:
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()
            process.wait(LONG_S)
        self.relay.close()
        if self._namespace:
            _ip("link", "del", self._here)
            _ip("netns", "del", self._namespace)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)
