"""The SkyPilot backend on the rig of real parts, as the conformance suite needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from clouds.skypilot.rig import Sky

from backends import runner
from backends.lease import Lease
from backends.protocol import Options
from backends.testing import Rig, Trait


@dataclass
class OnSky(Rig):
    """Cuts and silences at the provider's side; counts what lies on the clusters' disk."""

    sky: Sky | None = None

    @property
    def provider(self) -> Sky:
        """SkyPilot and its clusters; always there."""
        assert self.sky is not None
        return self.sky

    def uploaded_bytes(self) -> int:
        """What was laid out for jobs on the clusters' disk: their own copies, no links."""
        given = {"bundle", "inputs", "caches"}
        return sum(
            path.lstat().st_size
            for path in (self.provider.home.slurm / "ftlaunch").rglob("*")
            if given & set(path.parts) and path.is_file() and not path.is_symlink()
        )

    def kill(self, lease: Lease) -> None:
        """The runner and all that carries its mark die at once."""
        state = self.backend().observe(lease).state
        assert state is not None
        home = f"/runs/{lease.job}\0"
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                said = path.read_text("utf-8", "replace")
                if "runner.py" in said and said.endswith(home):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        while marked := runner.marked(dict(state)):
            for pid in marked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """The API server is stopped, as a process can be; what runs goes on."""
        with self.provider.silence():
            yield


@contextlib.contextmanager
def skypilot(
    folder: Path,
    state_dir: Path,
    *,
    detail: str = "",
    clusters: dict[str, int] | None = None,
    software: Path | None = None,
) -> Iterator[OnSky]:
    """A rig of its own, which this process and its children use while entered."""
    with Sky(folder, clusters, software=software) as sky, pytest.MonkeyPatch.context() as patch:
        for name, value in sky.environ.items():
            patch.setenv(name, value)
        forget_the_server()
        yield OnSky(
            factory="backends.skypilot:factory",
            options=Options(state_dir=state_dir, detail=detail, environ=dict(os.environ)),
            supports=frozenset({Trait.HERE, Trait.POWER_CUT, Trait.SILENCE, Trait.UPLOADS}),
            patience=timedelta(seconds=90),
            sky=sky,
        )
    forget_the_server()


def forget_the_server() -> None:
    """SkyPilot's client asks its variables once a process which server to ask: let it ask again.

    A user has one; a process of the tests meets several, one after the other.
    """
    common = sys.modules.get("sky.server.common")
    for one in list(vars(common).values()) if common is not None else ():
        if callable(getattr(one, "cache_clear", None)):
            one.cache_clear()
