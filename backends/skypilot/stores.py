"""A bucket with run directories, as this computer sees it: what is `Workplace` for a machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from backends import plan, rundir, runner
from backends.errors import Lost, Refused
from backends.job import Attached, Job, LocalFile
from backends.layout import cache_folder, layout
from backends.lease import Signal
from backends.protocol import Progress
from backends.skypilot.addresses import Address
from backends.skypilot.bucket import (
    ABOUT,
    ASKED,
    FILES,
    HALF,
    JOBS,
    RUN,
    halves,
    of_content,
    of_job,
)
from backends.skypilot.bucket.bringing import digest
from backends.skypilot.bucket.objects import Objects, each
from backends.skypilot.software import Software
from backends.skypilot.taking import open_bucket, taking
from backends.ssh.workplace import Seen

_POLL_S = 0.7
_PART_BYTES = 8 << 20


class Store:
    """The jobs below one address.

    Methods raise Unreachable and CredentialsMissing where the bucket is not to be had, besides what
    they name.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._opened: Objects | None = None
        self._known: dict[str, dict[str, Any]] = {}

    @property
    def _objects(self) -> Objects:
        if self._opened is None:
            self._opened = open_bucket(self.address)
        return self._opened

    def require(self) -> None:
        """Raises what there is to raise before anything is begun."""
        with taking(self.address):
            self._objects.size(f"{JOBS}/none")
            self._objects.sizes(f"{JOBS}/none")

    # ── laying out ────────────────────────────────────────────────────────────────────────────

    def lay(self, software: Software, *, told: Progress) -> str:
        """Put everything the job was given into the bucket; the half of its secrets to pass on.

        Contents that the bucket has are not sent again.
        Raises Refused for what cannot be, or has changed since the job was planned.
        """
        job = software.job
        found = layout(job)
        try:
            task, half = halves.split(job.secrets) if job.secrets else ("", b"")
        except ValueError as error:
            raise Refused(
                f"the secrets of {job.name} are too long to be handed over: {error} bytes"
            ) from error
        about = _about(software)
        files = [*found.files, *(file for _, cache in found.caches for file in cache.tree.files)]
        with taking(self.address):
            # First, so that no other job's end takes away what this one is about to count on.
            self._objects.write(of_job(job.name, ABOUT), json.dumps(about).encode())
            self._send(files, told)
            self._objects.write(of_job(job.name, RUN, str(rundir.PLAN)), _plan(job))
            source = Path(runner.__file__).read_bytes()
            self._objects.write(of_job(job.name, RUN, str(rundir.RUNNER)), source)
            if half:
                self._objects.write(of_job(job.name, HALF), half)
        return task

    def _send(self, files: Sequence[LocalFile], told: Progress) -> None:
        there = self._objects.sizes(FILES)
        missing = {f.sha256: f for f in files if there.get(f.sha256) != f.size_bytes}
        total, sent = sum(file.size_bytes for file in missing.values()), 0
        told("sending files", done=0, total=total)

        def send(file: LocalFile) -> None:
            nonlocal sent
            if digest(file.here) != file.sha256:
                raise Refused(
                    f"{os.fspath(file.here)!r} has changed since the job was planned",
                    hint="start again: the plan is then made from the file as it is now",
                )
            self._objects.put(of_content(file.sha256), file.here)
            sent += file.size_bytes
            told("sending files", done=sent, total=total)

        each(send, missing.values())

    # ── looking, asking ───────────────────────────────────────────────────────────────────────

    def has(self, job: str) -> bool:
        """Whether the bucket has anything of a job."""
        with taking(self.address):
            return self._objects.size(of_job(job, ABOUT)) is not None

    def about(self, job: str) -> dict[str, Any]:
        """What the job was given. Raises Lost."""
        if job not in self._known:
            self._known[job] = json.loads(self._content(of_job(job, ABOUT), job))
        return self._known[job]

    def status(self, job: str) -> Seen:
        """What its runner said last; whether it works is SkyPilot's to say."""
        try:
            content = self._content(of_job(job, RUN, str(rundir.STATE)), job)
        except Lost:
            return Seen(None, alive=False, leftover=False, there=self.has(job))
        return Seen(rundir.parse_state(content), alive=False, leftover=False)

    def signal(self, job: str, what: Signal, grace: timedelta) -> None:
        """Leave a wish for the machine that works on it, or for the next one."""
        asked = {"id": os.urandom(8).hex(), "what": what.value, "grace_s": grace.total_seconds()}
        with taking(self.address):
            self._objects.write(of_job(job, ASKED), json.dumps(asked).encode())

    # ── taking away ───────────────────────────────────────────────────────────────────────────

    def forget_secrets(self, job: str) -> None:
        """No machine takes the job up any more."""
        with taking(self.address):
            self._objects.drop(of_job(job, HALF))

    def remove(self, job: str) -> None:
        """Take all of a job away, and what no other job was given. Again and again is fine."""
        self._known.pop(job, None)
        with taking(self.address):
            try:
                given = json.loads(self._objects.read(of_job(job, ABOUT)))
            except FileNotFoundError:
                given = None
            self._objects.remove(of_job(job))
            if given is not None:
                wanted = set().union(*map(_contents, self._others()))
                each(self._objects.drop, [of_content(one) for one in _contents(given) - wanted])

    def _others(self) -> Iterator[Mapping[str, Any]]:
        for name in self._objects.sizes(JOBS):
            if name.endswith(f"/{ABOUT}") and name.count("/") == 1:
                try:
                    yield json.loads(self._objects.read(f"{JOBS}/{name}"))
                except FileNotFoundError:
                    continue

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def listing(self, job: str) -> dict[PurePosixPath, int]:
        """See `Backend.listing`."""
        given = {PurePosixPath(at): size for at, size, *_ in self.about(job)["files"]}
        with taking(self.address):
            made = self._objects.sizes(of_job(job, RUN))
        return {**given, **{PurePosixPath(name): size for name, size in made.items()}}

    def read(self, job: str, path: PurePosixPath, *, offset: int, follow: bool) -> Iterator[bytes]:
        """See `Backend.read`."""
        name, _ = self._found(job, path)
        return self._grown(name, offset, follow=follow)

    def _grown(self, name: str, offset: int, *, follow: bool) -> Iterator[bytes]:
        while True:
            with taking(self.address):
                size = self._objects.size(name) or 0
            while size > offset:
                end = min(size, offset + _PART_BYTES)
                with taking(self.address):
                    content = self._objects.part(name, offset, end)
                offset += len(content)
                yield content
            if not follow:
                return
            yield b""
            time.sleep(_POLL_S)

    def fetch(self, job: str, paths: Sequence[PurePosixPath], into: Path) -> None:
        """See `Backend.fetch`; held to the digests of the job's manifest, where there is one."""
        promised = self._promised(job)

        def one(path: PurePosixPath) -> None:
            name, given = self._found(job, path)
            self._fetch(name, into / path, sha256=promised.get(path, given))

        each(one, paths)

    def _fetch(self, name: str, target: Path, *, sha256: str | None) -> None:
        """It appears under its name only when it is whole, and as was promised."""
        if sha256 is not None and target.is_file() and digest(target) == sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        if sha256 is None:
            partial.unlink(missing_ok=True)  # nobody can tell whether it goes on from that
        with taking(self.address):
            self._objects.get(name, partial)
            if sha256 is not None and digest(partial) != sha256:
                # What was begun may be of another file: once more from the start.
                partial.unlink()
                self._objects.get(name, partial)
        if sha256 is not None and digest(partial) != sha256:
            partial.unlink()
            raise Lost(f"{target.name} in {self.address.url} is not what its manifest says")
        partial.replace(target)

    def _promised(self, job: str) -> dict[PurePosixPath, str]:
        try:
            content = self._content(of_job(job, RUN, str(rundir.MANIFEST)), job)
        except Lost:
            return {}
        manifest = rundir.parse_manifest(content)
        return {} if manifest is None else {file.path: file.sha256 for file in manifest.files}

    def _found(self, job: str, path: PurePosixPath) -> tuple[str, str | None]:
        """An object's name, and its digest where it was given. Raises Lost."""
        name = of_job(job, RUN, str(path))
        with taking(self.address):
            if self._objects.size(name) is not None:
                return name, None
        about = self.about(job)
        for at, _, sha256, _ in about["files"]:
            if path == PurePosixPath(at):
                return of_content(sha256), sha256
        for at, earlier in about["attached"]:
            if path.is_relative_to(at):
                return self._found(earlier, path.relative_to(at))
        for top, _, files in about["caches"]:
            for at, _, sha256, _ in files:
                if path == PurePosixPath(top, at):
                    return of_content(sha256), sha256
        raise Lost(f"there is no file {str(path)!r} of {job} in {self.address.url}")

    def _content(self, name: str, job: str) -> bytes:
        with taking(self.address):
            try:
                return self._objects.read(name)
            except FileNotFoundError as error:
                raise Lost(f"there is nothing of {job} in {self.address.url}") from error


def _plan(job: Job) -> bytes:
    document = plan.document(job.plan, job=job.name, outputs=job.outputs, deadline=job.deadline)
    return json.dumps(document, indent=1).encode()


def _about(software: Software) -> dict[str, Any]:
    """What `bucket.bringing` and `bucket.attempt` read. No secret is in it."""
    job = software.job
    found = layout(job)
    rule = job.plan.checkpoint
    return {
        "schema": 1,
        "files": [_row(file) for file in found.files],
        "attached": [[str(at), name] for at, name in found.attached],
        "caches": [
            [str(at), cache_folder(cache), [_row(file) for file in cache.tree.files]]
            for at, cache in found.caches
        ],
        "env": dict(job.env),
        "checkpoint": None if rule is None else rule.glob,
        "prefix": software.prefix,
        "probe": list(software.probe),
        "programs": list(software.programs),
        "lasting": [list(pair) for pair in software.lasting],
    }


def _row(file: LocalFile) -> list[Any]:
    return [str(file.at), file.size_bytes, file.sha256, file.here.stat().st_mode & 0o777]


def _contents(about: Mapping[str, Any]) -> set[str]:
    caches = [row for _, _, files in about["caches"] for row in files]
    return {sha256 for _, _, sha256, _ in [*about["files"], *caches]}


def attached_names(job: Job) -> list[str]:
    """The earlier jobs that a job builds on."""
    return [
        item.files.data.get("job", item.files.id)
        for item in job.inputs
        if isinstance(item, Attached)
    ]
