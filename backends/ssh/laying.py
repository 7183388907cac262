"""The far side of laying out a job on this machine: folders, room, links, caches.

One file on the standard library, for Python 3.9 and later; sent with every request over standard
input, like `place.py`. The files themselves come by `backends.ssh.sync`, and what many jobs share
by `filling.py`. `backends.local.layout` is the reference for what happens here.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import stat
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

Answer = Dict[str, Any]


def raw(text: str) -> bytes:
    """A name as the bytes it stands for."""
    return text.encode("utf-8", "surrogateescape")


def write_private(path: bytes, content: bytes) -> None:
    """Replace a file by rename; only its owner reads it."""
    temporary = b"%s.%s" % (path, os.urandom(4).hex().encode())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def private(folder: bytes) -> None:
    """A folder that only its owner enters, made with those above it that are missing."""
    if not os.path.isdir(folder):
        private(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


# ── who lays it out ───────────────────────────────────────────────────────────────────────────────

STALE_S = 60.0
"""Who lays a job out says every ten seconds that it is there; after this long it is not."""


def claimed(request: Answer) -> bool:
    """Take, or keep, the right to lay out a job; False while another computer has it.

    by  the computer that asks. Two that finish the same run may ask for its next job at once.
    """
    home = raw(request["home"])
    path = os.path.join(os.path.dirname(home), b".%s.by" % os.path.basename(home))
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        has, by = file.read(), raw(request["by"])
        age = time.time() - os.fstat(file.fileno()).st_mtime
        if has not in (b"", by) and abs(age) < STALE_S:
            return False
        file.seek(0)
        file.write(by)
        file.truncate()
        os.utime(file.fileno())
    return True


# ── a run directory ───────────────────────────────────────────────────────────────────────────────


def prepare(request: Answer) -> Answer:
    """See whether the job can be laid out here, and make its folders if so.

    files     [path, bytes] of what will be sent;  reserve  bytes that must stay free besides
    begun     where the upload keeps what it has of files that are not yet whole
    links     paths of what will be linked
    attached  the run directories of earlier jobs that it wants to see
    missing   [cache's folder, bytes] of the caches that are still to be filled

    What an earlier try left and this one does not have is taken out.
    """
    home = raw(request["home"])
    if os.path.exists(os.path.join(home, b"state.json")):
        return {"started": True}
    runs = os.path.dirname(home)
    if os.path.isdir(runs) and not claimed(request):
        return {"started": False, "busy": True}
    gone = [path for path in request["attached"] if not os.path.isdir(raw(path))]
    keep = {raw(path) for path, _ in request["files"]} | {raw(at) for at in request["links"]}
    folders = {raw(name) for name in request["folders"]}
    take_out(home, keep, folders)
    short = shortage(request)
    if gone or short:
        return {"started": False, "gone": gone, "short": short}
    private(runs)
    if not claimed(request):
        return {"started": False, "busy": True}
    private(home)
    os.chmod(home, 0o700)
    for name in folders:
        private(os.path.join(home, name))
    return {"started": False, "gone": [], "short": None}


def take_out(home: bytes, keep: Set[bytes], folders: Set[bytes]) -> None:
    """Remove what is neither to be kept nor a folder above it."""
    above = {parent for path in keep for parent in parents(path)} | folders
    for at, names, files in os.walk(home, topdown=False):
        for name in [*files, *names]:
            path = os.path.join(at, name)
            inside = os.path.relpath(path, home)
            if os.path.isdir(path) and not os.path.islink(path):
                if inside not in above:
                    shutil.rmtree(path)
            elif inside not in keep:
                os.unlink(path)


def parents(path: bytes) -> Iterator[bytes]:
    """The folders above a relative path."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def shortage(request: Answer) -> Optional[Answer]:
    """The first disk without room for what is still to come, and how much that is."""
    wanted: Dict[int, List[Any]] = {}

    def want(place: bytes, count: int, there: int) -> None:
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        entry = wanted.setdefault(os.stat(place).st_dev, [place, 0])
        entry[1] += max(0, count - there)

    home = raw(request["home"])
    there = bytes_below(home) + bytes_below(raw(request["begun"]))
    want(home, sum(size for _, size in request["files"]), there)
    want(home, request["reserve"], 0)
    for folder, size in request["missing"]:
        want(raw(folder), size, bytes_below(raw(folder)))
    for place, count in wanted.values():
        seen = os.statvfs(place)
        free = seen.f_bavail * seen.f_frsize
        if free < count:
            return {"place": place.decode("utf-8", "replace"), "needed": count, "free": free}
    return None


def bytes_below(folder: bytes) -> int:
    """What the files below a folder take, links apart; a hole in one takes nothing."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                seen = os.lstat(os.path.join(at, name))
                if stat.S_ISREG(seen.st_mode):
                    total += min(seen.st_size, seen.st_blocks * 512)
    return total


def finish(request: Answer) -> Answer:
    """Put in what is no upload: links [path, target], small files {name: content in base64}."""
    home = raw(request["home"])
    if not claimed(request):
        return {"busy": True}
    for at, target in request["links"]:
        path = os.path.join(home, raw(at))
        private(os.path.dirname(path))
        if os.path.islink(path) and os.readlink(path) != raw(target):
            os.unlink(path)
        with contextlib.suppress(FileExistsError):
            os.symlink(raw(target), path)
        if not os.path.islink(path):
            return {"taken": at}
    for name, content in request["write"].items():
        write_private(os.path.join(home, raw(name)), base64.b64decode(content))
    return {}


COMMANDS: Dict[str, Callable[[Answer], Answer]] = {"prepare": prepare, "finish": finish}


def main(argv: List[str]) -> int:
    """Do one command."""
    request = json.loads(sys.stdin.buffer.readline())
    with contextlib.suppress(OSError):
        os.utime(os.path.join(request["root"], "watch", "seen"))
    try:
        answer = COMMANDS[argv[0]](request)
    except OSError as error:
        answer = {"error": str(error), "errno": error.errno}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
