"""One container: a process tree in namespaces of its own, with private copies of its volumes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from clouds.modal.logs import ERR, OUT
from clouds.modal.volumes import Volume

INIT = Path(__file__).parents[1] / "init.py"
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")

# A fresh disk over /mnt, the volumes mounted below it, then the first process.
_SETUP = """
mount --bind "$DISK" /mnt || exit 125
for pair in $MOUNTS; do
    mkdir -p "${pair%%=*}" && mount --bind "${pair#*=}" "${pair%%=*}" || exit 125
done
if [ -n "$HOSTS" ]; then mount --bind "$HOSTS" /etc/hosts || exit 125; fi
unset DISK MOUNTS HOSTS
exec "$@"
"""


class Container:
    """Begins with `start`; `over` is set when everything of it is gone."""

    def __init__(
        self,
        task: str,
        folder: Path,
        volumes: Mapping[str, Volume],
        env: Mapping[str, str],
        said: Callable[[int, str], None],
        *,
        hosts: Path | None = None,
    ) -> None:
        self.task = task
        self.volumes = volumes
        self.over = asyncio.Event()
        self.code: int | None = None
        self.why = ""
        self.began = 0.0
        self.ended = 0.0
        self._folder = folder
        self._env = env
        self._said = said
        self._hosts = hosts
        self._process: asyncio.subprocess.Process | None = None

    @property
    def disk(self) -> Path:
        """What the container sees at /mnt."""
        return self._folder / "disk"

    async def start(self) -> None:
        """Make its disk and its copies, and run the SDK's own entrypoint in it."""
        self.disk.mkdir(parents=True)
        pairs = []
        for at, volume in self.volumes.items():
            copy = await asyncio.to_thread(volume.open, self.task, self._folder / volume.id)
            pairs.append(f"{at}={copy.folder}")
        flags = ["-m", "-p", "--fork", "--kill-child", "--mount-proc"]
        if os.geteuid() != 0:
            flags.insert(0, "-r")
        own = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            "unshare",
            *flags,
            "sh",
            "-c",
            _SETUP,
            "sh",
            sys.executable,
            str(INIT),
            sys.executable,
            "-m",
            "modal._container_entrypoint",
            env={
                **own,
                **self._env,
                "DISK": str(self.disk),
                "MOUNTS": " ".join(pairs),
                "HOSTS": str(self._hosts or ""),
            },
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.began = time.monotonic()

    async def wait(self) -> None:
        """Until it is over; its disk and its copies go with it."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pumps = asyncio.gather(
            self._pump(self._process.stdout, OUT), self._pump(self._process.stderr, ERR)
        )
        code = await self._process.wait()
        # Whatever still holds the pipe died with the namespace.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(pumps, 2)
        self.code = 128 - code if code < 0 else code
        self.ended = time.monotonic()
        self.over.set()

    def clear(self) -> None:
        """Remove its disk; what was not committed is gone."""
        for volume in self.volumes.values():
            volume.close(self.task)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _pump(self, stream: asyncio.StreamReader, name: int) -> None:
        while part := await stream.read(65536):
            self._said(name, part.decode("utf-8", "replace"))

    # ── what is done to it ────────────────────────────────────────────────────────────────────

    def interrupt(self) -> None:
        """SIGINT to its first process, as before a preemption."""
        first = self._first()
        if first is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGINT)

    def kill(self, why: str) -> None:
        """End everything of it, now."""
        self.why = self.why or why
        for pid in (self._first(), None if self._process is None else self._process.pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _first(self) -> int | None:
        """The namespace's first process, as this side counts."""
        if self._process is None or self._process.returncode is not None:
            return None
        with contextlib.suppress(OSError, ValueError, IndexError):
            path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            return int(path.read_text().split()[0])
        return None

    def open_file(self, mount: str) -> str | None:
        """A file below a mount that somebody in the container has open; None when there is none."""
        first = self._first()
        if first is None:
            return None
        space = Path(f"/proc/{first}/ns/pid").readlink()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                one = Path("/proc", entry.name)
                if (one / "ns/pid").readlink() != space:
                    continue
                held = [str((one / "cwd").readlink())]
                for link in (one / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        held.append(str(link.readlink()))
                found = next((path for path in held if path.startswith(mount)), None)
                if found is not None:
                    return found
        return None
