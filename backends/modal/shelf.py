"""Run directories on the Volume, as anybody sees them who has the account's token."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from backends import rundir
from backends.errors import Lost, Unreachable
from backends.job import Cache, LocalFile
from backends.layout import cache_folder
from backends.modal.account import Account, translated
from backends.modal.ftlaunch_job import KILLS, NOTE, WHOLE
from backends.protocol import Progress

RUNS, CACHES, LASTING = "runs", "caches", "lasting"
LINKS, KEPT = ".links.json", ".kept"
_HIDDEN = {NOTE, WHOLE, KILLS, LINKS, KEPT, rundir.RUNNER.name, rundir.TEAM.name}
_YOUNG_S = 3600
_POLL_S = 0.5
_BATCH_BYTES = 64 << 20


class Shelf:
    """The Volume with the run directories, and the one with the caches."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._volumes: dict[str, Any] = {}
        self._known_links: dict[str, list[tuple[str, str]]] = {}

    def volume(self, name: str) -> Any:
        """A volume's handle, made once."""
        if name not in self._volumes:
            self._volumes[name] = self._account.volume(name)
        return self._volumes[name]

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def put(
        self,
        job: str,
        files: Sequence[LocalFile],
        small: Mapping[str, bytes],
        told: Progress,
    ) -> None:
        """Send a job's files. Blocks that Modal has already are not sent again."""
        self._send(RUNS, [(f"/{job}/{file.at}", file) for file in files], told)
        import io

        with translated(), self.volume(RUNS).batch_upload(force=True) as batch:
            for name, content in small.items():
                batch.put_file(io.BytesIO(content), f"/{job}/{name}")

    def fill(self, cache: Cache, told: Progress) -> None:
        """Send a cache, unless it is there whole."""
        folder = cache_folder(cache)
        if self._exists(CACHES, f"{folder}.whole"):
            return
        self._send(CACHES, [(f"/{folder}/{file.at}", file) for file in cache.tree.files], told)
        import io

        with translated(), self.volume(CACHES).batch_upload(force=True) as batch:
            batch.put_file(io.BytesIO(b"whole"), f"/{folder}.whole")

    def _send(self, volume: str, files: Sequence[tuple[str, LocalFile]], told: Progress) -> None:
        total = sum(file.size_bytes for _, file in files)
        done = 0
        told("sending files", done=0, total=total)
        for batch in _batches(files):
            with translated(), self.volume(volume).batch_upload(force=True) as upload:
                for at, file in batch:
                    require_same(file)
                    upload.put_file(file.here, at, mode=file.here.stat().st_mode & 0o777)
            done += sum(file.size_bytes for _, file in batch)
            told("sending files", done=done, total=total)

    def remove(self, job: str) -> None:
        """Take a run directory away; again and again is fine."""
        self._known_links.pop(job, None)
        try:
            with translated():
                self.volume(RUNS).remove_file(f"/{job}", recursive=True)
        except Lost:
            return

    def mark_kept(self, job: str) -> None:
        """Say to every computer of the account that this run directory is kept on purpose."""
        import io

        with translated(), self.volume(RUNS).batch_upload(force=True) as batch:
            batch.put_file(io.BytesIO(b"kept"), f"/{job}/{KEPT}")

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    def _exists(self, volume: str, path: str) -> bool:
        try:
            with translated():
                return bool(self.volume(volume).listdir(f"/{path}"))
        except Lost:
            return False

    def jobs(self) -> list[str]:
        """Every run directory there is."""
        try:
            with translated():
                rows = self.volume(RUNS).listdir("/")
        except Lost:
            return []
        return [PurePosixPath(row.path).name for row in rows if row.type.name == "DIRECTORY"]

    def left_behind(self, job: str) -> bool:
        """Whether a container worked on it, or a launch of it ended long ago, and nobody keeps it.

        What was laid out a short while ago may be another computer's launch.
        """
        try:
            with translated():
                rows = self.volume(RUNS).listdir(f"/{job}")
        except Lost:
            return False
        names = {PurePosixPath(row.path).name for row in rows}
        young = any(row.mtime > time.time() - _YOUNG_S for row in rows)
        return KEPT not in names and (NOTE in names or not young)

    def exists(self, job: str) -> bool:
        """Whether there is a run directory of that name."""
        return self._exists(RUNS, job)

    def whole(self, job: str, path: PurePosixPath | str) -> bytes:
        """A file's content. Raises Lost when there is none."""
        volume, there = self._found(job, path)
        with translated():
            return b"".join(self.volume(volume).read_file(f"/{there}"))

    def _found(self, job: str, path: PurePosixPath | str) -> tuple[str, str]:
        """The volume and the place of a file: what is seen through a link is somewhere else."""
        path = PurePosixPath(path)
        for at, where in self._links(job) if len(path.parts) > 1 else ():
            if path.is_relative_to(at):
                volume, _, folder = where.partition("/")
                return volume, str(PurePosixPath(folder) / path.relative_to(at))
        return RUNS, f"{job}/{path}"

    def _links(self, job: str) -> list[tuple[str, str]]:
        if job not in self._known_links:
            try:
                with translated():
                    content = b"".join(self.volume(RUNS).read_file(f"/{job}/{LINKS}"))
                self._known_links[job] = [(at, where) for at, where in json.loads(content)]
            except (Lost, ValueError):
                return []
        return self._known_links[job]

    def state(self, job: str) -> dict[str, Any] | None:
        """The runner's state as it was last committed. Raises Unreachable for half of one."""
        try:
            found = rundir.parse_state(self.whole(job, rundir.STATE))
        except Lost:
            return None
        if found is None:
            raise Unreachable(f"the state of {job} could be read in part only", hint="look again")
        return found

    def note(self, job: str) -> dict[str, Any]:
        """What the container wrote down of itself; empty before there was one."""
        try:
            found = json.loads(self.whole(job, NOTE))
        except (Lost, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def read(self, job: str, path: PurePosixPath, *, offset: int, follow: bool) -> Iterator[bytes]:
        """See `Backend.read`. A volume has no ranges: what is new is asked for whole."""
        content = self.whole(job, path)
        return self._grown(job, path, content, offset, follow=follow)

    def _grown(
        self, job: str, path: PurePosixPath, content: bytes, offset: int, *, follow: bool
    ) -> Iterator[bytes]:
        while True:
            if len(content) > offset:
                yield content[offset:]
                offset = len(content)
            if not follow:
                return
            yield b""
            time.sleep(_POLL_S)
            size = self._size(job, path)
            if size is not None and size > offset:
                content = self.whole(job, path)

    def _size(self, job: str, path: PurePosixPath) -> int | None:
        volume, there = self._found(job, path)
        with translated():
            rows = self.volume(volume).listdir(f"/{there}")
        return int(rows[0].size) if rows else None

    def listing(self, job: str) -> dict[PurePosixPath, int]:
        """See `Backend.listing`. Raises Lost when there is no such run directory."""
        with translated():
            rows = self.volume(RUNS).listdir(f"/{job}", recursive=True)
        found = {}
        for row in rows:
            path = PurePosixPath("/", row.path).relative_to(f"/{job}")
            if row.type.name == "FILE" and path.parts and path.parts[0] not in _HIDDEN:
                found[path] = int(row.size)
        return found

    def fetch(self, job: str, path: PurePosixPath, into: Path, *, sha256: str | None) -> None:
        """Copy one file; it appears under its name only when whole, and as was promised."""
        target = into / path
        if sha256 is not None and _digest(target) == sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            digest = hashlib.sha256()
            volume, there = self._found(job, path)
            with partial.open("wb") as out, translated():
                for part in self.volume(volume).read_file(f"/{there}"):
                    digest.update(part)
                    out.write(part)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise Lost(f"{path} of {job} is not what its manifest says")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
            _drop_empty(target.parent, into)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _drop_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def require_same(file: LocalFile) -> None:
    """Raises Refused when a file is no longer what the plan was made from."""
    from backends.errors import Refused

    if _digest(file.here) != file.sha256:
        raise Refused(
            f"{os.fspath(file.here)!r} has changed since the job was planned",
            hint="start again: the plan is then made from the file as it is now",
        )


def _batches(
    files: Sequence[tuple[str, LocalFile]],
) -> Iterator[list[tuple[str, LocalFile]]]:
    batch: list[tuple[str, LocalFile]] = []
    size = 0
    for at, file in files:
        if batch and size + file.size_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((at, file))
        size += file.size_bytes
    if batch:
        yield batch
