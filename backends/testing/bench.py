"""Where a case works: it launches jobs, waits for what must come, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pytest

from backends.errors import Lost
from backends.job import Files, Job, LocalFile
from backends.lease import Keep, Lease, Observation, Phase
from backends.plan import Argument, Plan
from backends.protocol import silent
from backends.testing.child import one_step
from backends.testing.rig import Rig, Trait

READY = PurePosixPath("output/ready")

T = TypeVar("T")


class Bench:
    """A rig, a folder, and the jobs a case has launched."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.backend = rig.backend()
        self._launched: dict[str, Lease] = {}

    def need(self, trait: Trait) -> None:
        """Skip the case when the rig cannot do this."""
        if trait not in self.rig.supports:
            pytest.skip(f"this rig cannot: {trait.value}")

    def new_name(self) -> str:
        """A job name that nobody has."""
        return f"suite-{secrets.token_hex(6)}"

    def argv(self, program: str, *arguments: Argument) -> tuple[Argument, ...]:
        """The command that runs a program of `backends.testing.programs` inside a job."""
        return (*self.rig.python, "-c", program, *arguments)

    def file(self, here: str, content: bytes, *, at: str | None = None) -> LocalFile:
        """A file of this machine, for the place `at` in a run directory (`bundle/<here>`)."""
        path = self.folder / here
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        place = PurePosixPath(at or f"bundle/{here}")
        return LocalFile(path, place, len(content), hashlib.sha256(content).hexdigest())

    def job(self, program: str, *arguments: Argument, **changes: Any) -> Job:
        """A job of one step; `changes` are fields of `Job`, `step` and `plan` those of theirs."""
        base = one_step(changes.pop("name", None) or self.new_name(), ())
        step = replace(
            base.plan.steps[0], argv=self.argv(program, *arguments), **changes.pop("step", {})
        )
        plan = Plan(steps=(step,), **changes.pop("plan", {}))
        return replace(base, plan=plan, **changes)

    def launch(self, job: Job) -> Lease:
        """Launch, and remember to clean up."""
        lease = self.backend.launch(job, self.rig.offer(), on_lease=self.remember, progress=silent)
        self.remember(lease)
        return lease

    def run(self, program: str, *arguments: Argument, **changes: Any) -> Lease:
        """Launch a job and wait until it has ended; it must have succeeded."""
        lease = self.launch(self.job(program, *arguments, **changes))
        seen = self.wait(lease)
        assert seen.phase is Phase.SUCCEEDED, f"{seen.phase}: {seen.reason}; {self.logs(lease)}"
        return lease

    def start(self, program: str, *arguments: Argument, **changes: Any) -> Lease:
        """Launch a job and wait until its program says it is ready."""
        lease = self.launch(self.job(program, *arguments, **changes))
        self.wait_ready(lease)
        return lease

    def remember(self, lease: Lease) -> None:
        """Clean this one up as well."""
        self._launched[lease.id] = lease

    def clean(self) -> None:
        """Let go of everything the case launched."""
        for lease in self._launched.values():
            self.rig.backend().release(lease, keep=Keep.NOTHING)

    # ── waiting ───────────────────────────────────────────────────────────────────────────────

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """What `look` returns as soon as that is something; fails when patience ends."""
        end = time.monotonic() + self.rig.patience.total_seconds()
        while True:
            if (found := look()) is not None:
                return found
            assert time.monotonic() < end, f"waited {self.rig.patience} in vain for {what}"
            time.sleep(0.05)

    def wait(self, lease: Lease) -> Observation:
        """The observation that says it has ended."""

        def look() -> Observation | None:
            seen = self.backend.observe(lease)
            return seen if seen.phase.ended else None

        return self.until("the job's end", look)

    def wait_ready(self, lease: Lease) -> bytes:
        """What the program wrote when it was ready."""

        def look() -> bytes | None:
            seen = self.backend.observe(lease)
            assert not seen.phase.ended, f"{seen.phase}: {seen.reason}; {self.logs(lease)}"
            return self.content_if_there(lease.files, READY)

        return self.until("the program to be ready", look)

    def wait_step(self, lease: Lease) -> None:
        """Until the job is running."""

        def look() -> bool | None:
            phase = self.backend.observe(lease).phase
            return True if phase is Phase.RUNNING or phase.ended else None

        self.until("the job to run", look)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def content(self, files: Files, path: str | PurePosixPath, *, offset: int = 0) -> bytes:
        """A file's content from `offset` on."""
        place = PurePosixPath(path)
        return b"".join(self.backend.read(files, place, offset=offset, follow=False))

    def content_if_there(self, files: Files, path: str | PurePosixPath) -> bytes | None:
        """A file's content; None when there is no such file."""
        try:
            return self.content(files, path)
        except Lost:
            return None

    def json(self, files: Files, path: str | PurePosixPath) -> Any:
        """A file's content, parsed."""
        return json.loads(self.content(files, path))

    def logs(self, lease: Lease) -> str:
        """The first step's log, for a failure's message."""
        found = self.content_if_there(lease.files, "logs/only/000001.log")
        return (found or b"(no log)").decode("utf-8", "replace")

    def mine(self, lease: Lease) -> list[Lease]:
        """What a new process finds of the job among the leases."""
        return [found for found in self.rig.backend().leases() if found.job == lease.job]
