"""Rigs for backends that run jobs as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from backends import runner
from backends.lease import Lease
from backends.protocol import Options
from backends.testing import Rig, Trait

HERE = frozenset({Trait.HERE, Trait.POWER_CUT, Trait.SILENCE, Trait.UPLOADS})


class ThisMachine(Rig):
    """Counts, cuts and silences by what lies on this disk and in /proc."""

    def uploaded_bytes(self) -> int:
        """What has been laid out for jobs: their own copies, not what is shared or linked."""
        given = ("bundle", "inputs", "caches")
        return sum(
            path.lstat().st_size
            for path in self.options.state_dir.rglob("*")
            if set(given) & set(path.parts) and path.is_file() and not path.is_symlink()
        )

    def kill(self, lease: Lease) -> None:
        """Kill the runner and every process that carries its mark."""
        state = self.backend().observe(lease).state
        assert state is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(state["pid"], signal.SIGKILL)
        while marked := runner.marked(dict(state)):
            for pid in marked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Take the whole state folder away, as a disk that is not mounted."""
        place = self.options.state_dir
        away = place.with_name(f"{place.name} away")
        place.rename(away)
        try:
            yield
        finally:
            away.rename(place)


def local(
    state_dir: Path, factory: str = "backends.local:factory", detail: str = ""
) -> ThisMachine:
    """A rig of the local backend, or of one that wraps it."""
    options = Options(state_dir=state_dir, detail=detail, environ=dict(os.environ))
    return ThisMachine(factory=factory, options=options, supports=HERE)
