"""A machine with a workplace, behind a real sshd of this machine."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from far_rig import until
from sshd import Sshd

from backends import runner
from backends.job import Cache, Job, LocalFile, LocalTree
from backends.plan import Plan, Step
from backends.protocol import silent
from backends.ssh.sync import Moved
from backends.ssh.workplace import Seen, Workplace

PYTHON = (sys.executable, "-S", "-E", "-c")
FOREVER = "import time\nprint('it runs', flush=True)\nwhile True: time.sleep(60)"


@dataclass
class Machine:
    """An sshd, a folder of ours on it, and a folder of files here."""

    sshd: Sshd
    root: Path
    here: Path

    def place(self, *, cache_root: Path | None = None, by: str = "this") -> Workplace:
        """A workplace as another process would make it, on the computer `by`."""
        shared = None if cache_root is None else PurePosixPath(cache_root)
        return Workplace(self.sshd.host(), PurePosixPath(self.root), cache_root=shared, by=by)

    def home(self, job: str = "job") -> Path:
        return self.root / "runs" / job

    def file(self, name: str, content: bytes, at: str | None = None) -> LocalFile:
        here = self.here / name
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return LocalFile(here, PurePosixPath(at or f"bundle/{name}"), len(content), digest)

    def job(self, program: str = "", name: str = "job", **changes: Any) -> Job:
        plan = Plan(steps=(Step("only", (*PYTHON, program)),), disk_reserve_bytes=4096)
        return Job(name=name, plan=plan, deadline=timedelta(minutes=5), **changes)

    def with_files(self, *files: LocalFile, **changes: Any) -> Job:
        return self.job(inputs=(LocalTree(files),), **changes)

    def cache(self, key: str, *files: LocalFile, at: str = "bundle/model") -> Cache:
        return Cache(key, LocalTree(files), PurePosixPath(at))

    def launch(self, place: Workplace, job: Job) -> Moved:
        moved = place.lay(job, told=silent)
        place.start(job, {})
        return moved

    def run(self, place: Workplace, job: Job) -> Seen:
        """Launch it and wait for its end."""
        self.launch(place, job)
        until("its end", lambda: not place.status(job.name).alive)
        return place.status(job.name)

    def log(self, job: str = "job") -> str:
        """What its steps said."""
        parts = sorted(self.home(job).glob("logs/*/*.log"))
        return "".join(path.read_text() for path in parts)

    def close(self) -> None:
        """End every job."""
        for home in self.root.glob("runs/[!.]*"):
            if (home / "plan.json").exists():
                runner.request_stop(str(home), 0.0)
                until("its end", lambda: not runner.status(str(home))["alive"])  # noqa: B023
