"""A terminal with a command in it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import Self

from desks import FTLAUNCH, Desk


class Terminal:
    """A command in a terminal of its own; `heard` is what it has printed."""

    def __init__(self, desk: Desk, *argv: str) -> None:
        self.heard = ""
        self._desk, self._argv = desk, argv

    def __enter__(self) -> Self:
        self._side, child = pty.openpty()
        self._process = subprocess.Popen(
            [FTLAUNCH, *self._argv],
            cwd=self._desk.here,
            env={**self._desk.environ, "TERM": "dumb"},
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        os.close(child)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._side)

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def until(self, text: str, *, within: float = 1200) -> None:
        """Wait until this is heard."""
        end = time.monotonic() + within
        while text not in self.heard:
            assert time.monotonic() < end, self.heard
            assert self._read(), self.heard

    def ended(self, within: float = 600) -> int:
        end = time.monotonic() + within
        while self._process.poll() is None:
            assert time.monotonic() < end, self.heard
            self._read()
        return int(self._process.returncode)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._side], [], [], 1)
        if not ready:
            return True
        try:
            self.heard += os.read(self._side, 65536).decode("utf-8", "replace")
        except OSError:
            return False
        return True
