"""Files for transfers: what is sent, and what has arrived."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from backends.job import LocalFile

MIB = 1 << 20


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression makes smaller, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def local_file(folder: Path, name: str, data: bytes, at: str | None = None) -> LocalFile:
    """A file of this machine that goes to `at`."""
    here = folder / name
    here.parent.mkdir(parents=True, exist_ok=True)
    here.write_bytes(data)
    return planned(here, PurePosixPath(at or name))


def planned(here: Path, at: PurePosixPath) -> LocalFile:
    """A file as it is now."""
    data = here.read_bytes()
    return LocalFile(here, at, len(data), hashlib.sha256(data).hexdigest())


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Lay files out."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def tree(folder: Path) -> dict[str, str]:
    """Every file below the folder and its digest; a link is told as one."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            told = "a link" if path.is_symlink() else digest(path.read_bytes())
            found[str(path.relative_to(folder))] = told
    return found


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """What `tree` would say of these."""
    return {name: digest(data) for name, data in files.items()}


def digest(data: bytes) -> str:
    """The sha256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
