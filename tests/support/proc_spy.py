"""What was really started: the arguments, variables and folder of processes, read from /proc.

Processes in namespaces of their own are seen too, when the tests run as root.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Seen:
    """One process as it was when it was first met; `cwd` as it sees its own file system.

    started  in clock ticks since the machine's start
    """

    argv: tuple[str, ...]
    environ: dict[str, str]
    cwd: str
    started: int


@dataclass
class Spy:
    """Meets the processes of a run with `word` in their arguments that live for some tenths of a
    second.

    run  is found in the working directory of the processes that are meant: tests beside this one
         start the same programs
    """

    word: str
    run: str
    seen: dict[int, Seen] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def first(self, word: str) -> Seen:
        """The first that had this word in its arguments: the step itself, not what it started."""
        found = [seen for seen in self.seen.values() if word in seen.argv]
        return min(found, key=lambda seen: seen.started)

    def _look(self) -> None:
        while not self._done.wait(0.1):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit() and int(folder.name) not in self.seen:
                    self._meet(folder)

    def _meet(self, folder: Path) -> None:
        try:
            argv = _texts((folder / "cmdline").read_bytes())
            if not any(self.word in part for part in argv):
                return
            pairs = [text.partition("=") for text in _texts((folder / "environ").read_bytes())]
            cwd = str((folder / "cwd").readlink())
            if self.run not in cwd:
                return
            started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, IndexError):
            return
        environ = {name: value for name, _, value in pairs}
        self.seen[int(folder.name)] = Seen(tuple(argv), environ, cwd, started)


def _texts(raw: bytes) -> list[str]:
    return raw.decode("utf-8", "surrogateescape").rstrip("\0").split("\0")
