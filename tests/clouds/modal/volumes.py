"""Volumes: what is committed is a folder on disk, and what a container sees is a copy of it."""

from __future__ import annotations

import os
import shutil
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from clouds.modal.rpc import Caller, new_id
from clouds.modal.store import Blobs, digest_header
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

BLOCK = 8 << 20

Snapshot = dict[str, tuple[int, int, int]]
"""Relative path → (inode, size, time of change in ns)."""


@dataclass
class Copy:
    """What one container sees of a volume: `folder`, as it was at `base`."""

    folder: Path
    base: Snapshot = field(default_factory=dict)


@dataclass
class Volume:
    """One volume; `folder` holds what is committed."""

    id: str
    name: str
    folder: Path
    version: int
    created: float
    commits: int = 0
    limit_bytes: int | None = None
    copies: dict[str, Copy] = field(default_factory=dict)

    # ── what a container does ─────────────────────────────────────────────────────────────────

    def open(self, task: str, folder: Path) -> Copy:
        """A container begins: it gets what is committed now."""
        copy = self.copies[task] = Copy(folder)
        self._refresh(copy)
        return copy

    def close(self, task: str) -> None:
        """A container is gone, and with it what it did not commit."""
        copy = self.copies.pop(task, None)
        if copy is not None:
            shutil.rmtree(copy.folder, ignore_errors=True)

    def commit(self, task: str) -> None:
        """Make what a container changed the state of all; the last to write a file wins."""
        copy = self.copies[task]
        now = snapshot(copy.folder)
        changed = [path for path, seen in now.items() if copy.base.get(path) != seen]
        self.require_room(sum(now[path][1] for path in changed))
        for path in changed:
            place(copy.folder / path, self.folder / path)
        for path in copy.base.keys() - now.keys():
            # A listing can miss a file that is replaced meanwhile: that one is there.
            if not os.path.lexists(copy.folder / path):
                (self.folder / path).unlink(missing_ok=True)
        _drop_empty(self.folder, copy.folder)
        copy.base = now
        self.commits += 1

    def reload(self, task: str) -> None:
        """A container's own changes are committed, then it sees what is committed."""
        self.commit(task)
        self._refresh(self.copies[task])

    def _refresh(self, copy: Copy) -> None:
        copy.folder.mkdir(parents=True, exist_ok=True)
        committed = snapshot(self.folder)
        there = snapshot(copy.folder)
        for path in there.keys() - committed.keys():
            (copy.folder / path).unlink()
        for path in committed:
            here = copy.folder / path
            if not here.exists() or not _same(here, self.folder / path):
                place(self.folder / path, here)
        for folder, _, _ in os.walk(self.folder):
            (copy.folder / os.path.relpath(folder, self.folder)).mkdir(exist_ok=True)
        copy.base = snapshot(copy.folder)

    def require_room(self, more: int) -> None:
        """Raises GRPCError where the volume's limit would be passed."""
        if self.limit_bytes is None:
            return
        used = sum(size for _, size, _ in snapshot(self.folder).values())
        if used + more > self.limit_bytes:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"volume {self.name} is full")


def snapshot(folder: Path) -> Snapshot:
    """Every file below a folder, links as such."""
    found: Snapshot = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            try:
                seen = path.lstat()
            except FileNotFoundError:
                continue
            found[os.path.relpath(path, folder)] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return found


def place(source: Path, target: Path) -> None:
    """Put a copy of a file in place by rename; one that vanishes meanwhile is passed over."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copy2(source, partial, follow_symlinks=False)
        partial.replace(target)
    except FileNotFoundError:
        partial.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    a, b = one.lstat(), other.lstat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _drop_empty(folder: Path, like: Path) -> None:
    for at, _, _ in os.walk(folder, topdown=False):
        if not (like / os.path.relpath(at, folder)).exists() and not any(Path(at).iterdir()):
            Path(at).rmdir()
    for at, _, _ in os.walk(like):
        (folder / os.path.relpath(at, like)).mkdir(exist_ok=True)


class Volumes:
    """All volumes, and the RPCs on them."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._root = root
        self._blobs = blobs
        self._pins = root / "pins"
        self.all: dict[str, Volume] = {}

    def named(self, name: str) -> Volume | None:
        """The volume of that name."""
        return next((one for one in self.all.values() if one.name == name), None)

    def get(self, volume_id: str) -> Volume:
        """Raises GRPCError when there is none."""
        if volume_id not in self.all:
            raise GRPCError(Status.NOT_FOUND, f"Volume {volume_id} not found")
        return self.all[volume_id]

    def _pinned(self, path: Path) -> str:
        """A file as it is now: what is read later is of this version, as with Modal's blocks."""
        self._pins.mkdir(exist_ok=True)
        pin = new_id("pin")
        try:
            os.link(path, self._pins / pin)
        except FileNotFoundError as error:
            raise GRPCError(Status.NOT_FOUND, f"file not found: {path.name}") from error
        return pin

    def _inside(self, volume_id: str, path: str) -> Path:
        folder = self.get(volume_id).folder.resolve()
        found = (folder / path.lstrip("/")).resolve()
        if not found.is_relative_to(folder):
            raise GRPCError(Status.INVALID_ARGUMENT, "path escapes the volume")
        return found

    # ── RPCs: the volumes themselves ──────────────────────────────────────────────────────────

    async def VolumeGetOrCreate(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        name, how = request.deployment_name, request.object_creation_type
        found = self.named(name) if name else None
        if found and how == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        if found is None:
            if how == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Volume '{name}' not found in environment main")
            number = new_id("vo")
            version = request.version or api_pb2.VOLUME_FS_VERSION_V2
            found = Volume(number, name, self._root / number, version, time.time())
            found.folder.mkdir(parents=True)
            self.all[number] = found
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=found.id,
            version=found.version,  # type: ignore[arg-type]
            metadata=_metadata(found),
        )

    async def VolumeGetById(
        self, request: api_pb2.VolumeGetByIdRequest, _: Caller
    ) -> api_pb2.VolumeGetByIdResponse:
        found = self.get(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=found.id, metadata=_metadata(found))

    async def VolumeList(
        self, request: api_pb2.VolumeListRequest, _: Caller
    ) -> api_pb2.VolumeListResponse:
        rows = [
            api_pb2.VolumeListItem(label=one.name, volume_id=one.id, metadata=_metadata(one))
            for one in self.all.values()
        ]
        return api_pb2.VolumeListResponse(items=rows)

    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, _: Caller) -> Empty:
        shutil.rmtree(self.get(request.volume_id).folder)
        del self.all[request.volume_id]
        return Empty()

    # ── RPCs: from a client, straight to what is committed ────────────────────────────────────

    async def VolumePutFiles2(
        self, request: api_pb2.VolumePutFiles2Request, _: Caller
    ) -> api_pb2.VolumePutFiles2Response:
        volume = self.get(request.volume_id)
        missing = []
        for number, file in enumerate(request.files):
            for index, block in enumerate(file.blocks):
                name = block.contents_sha256.hex()
                if not self._blobs.has(name):
                    url = f"{self._blobs.url}/block/{name}"
                    missing.append(
                        api_pb2.VolumePutFiles2Response.MissingBlock(
                            file_index=number, block_index=index, put_url=url
                        )
                    )
        if missing:
            return api_pb2.VolumePutFiles2Response(missing_blocks=missing)
        volume.require_room(sum(file.size for file in request.files))
        for file in request.files:
            target = self._inside(request.volume_id, file.path)
            if target.exists() and request.disallow_overwrite_existing_files:
                raise GRPCError(Status.ALREADY_EXISTS, f"{file.path}: already exists")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            with partial.open("wb") as out:
                for index, block in enumerate(file.blocks):
                    whole = min(BLOCK, file.size - index * BLOCK)
                    content = self._blobs.path(block.contents_sha256.hex()).read_bytes()
                    out.write(content.ljust(whole, b"\0"))
            partial.chmod((file.mode & 0o777) or 0o644)
            partial.replace(target)
        return api_pb2.VolumePutFiles2Response()

    async def VolumeGetFile2(
        self, request: api_pb2.VolumeGetFile2Request, _: Caller
    ) -> api_pb2.VolumeGetFile2Response:
        path = self._inside(request.volume_id, request.path)
        if not path.is_file():
            raise GRPCError(Status.NOT_FOUND, f"file not found: {request.path}")
        pin = self._pinned(path)
        size = (self._pins / pin).stat().st_size
        start = min(request.start, size)
        length = min(request.len or size, size - start)
        urls = [
            f"{self._blobs.url}/volume/{request.volume_id}?"
            + urllib.parse.urlencode({"pin": pin, "start": at, "length": end - at})
            for at, end in _blocks(start, start + length)
        ]
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=start, len=length)

    async def VolumeListFiles2(
        self, request: api_pb2.VolumeListFiles2Request, _: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        path = self._inside(request.volume_id, request.path or "/")
        top = self.get(request.volume_id).folder.resolve()
        if not path.exists():
            raise GRPCError(Status.NOT_FOUND, f"No such file or directory: {request.path}")
        inside = path.rglob("*") if request.recursive else path.iterdir()
        found = [path] if path.is_file() else sorted(inside)
        for number in range(0, max(1, len(found)), 500):
            rows = [_entry(one, top) for one in found[number : number + 500]]
            yield api_pb2.VolumeListFiles2Response(entries=[row for row in rows if row])

    async def VolumeRemoveFile2(
        self, request: api_pb2.VolumeRemoveFile2Request, _: Caller
    ) -> Empty:
        path = self._inside(request.volume_id, request.path)
        if not path.exists():
            raise GRPCError(Status.NOT_FOUND, f"No such file or directory: {request.path}")
        if path.is_dir() and not request.recursive:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{request.path} is a directory")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return Empty()

    # ── HTTP ──────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        """Where blocks of files are read."""
        return [web.get("/volume/{volume}", self._give)]

    async def _give(self, request: web.Request) -> web.Response:
        if self._blobs.refuse_downloads:
            self._blobs.refuse_downloads -= 1
            return web.Response(status=503, text="on demand")
        path = self._pins / Path(request.query["pin"]).name
        if not path.is_file():
            return web.Response(status=404, text="it is gone")
        with path.open("rb") as file:
            file.seek(int(request.query["start"]))
            content = file.read(int(request.query["length"]))
        return web.Response(body=content, headers=digest_header(content))


def _metadata(volume: Volume) -> api_pb2.VolumeMetadata:
    made = api_pb2.CreationInfo(created_at=volume.created, created_by="loopback")
    return api_pb2.VolumeMetadata(
        version=volume.version,  # type: ignore[arg-type]
        name=volume.name,
        creation_info=made,
    )


def _blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = min((start // BLOCK + 1) * BLOCK, end)
        yield start, stop
        start = stop


def _entry(path: Path, top: Path) -> api_pb2.FileEntry | None:
    if path.name.startswith(".") and path.name.endswith(".partial"):
        return None
    kind = api_pb2.FileEntry.FILE
    if path.is_symlink():
        kind = api_pb2.FileEntry.SYMLINK
    elif path.is_dir():
        kind = api_pb2.FileEntry.DIRECTORY
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return None
    size = 0 if kind == api_pb2.FileEntry.DIRECTORY else seen.st_size
    return api_pb2.FileEntry(
        path=str(path.relative_to(top)), type=kind, mtime=int(seen.st_mtime), size=size
    )
