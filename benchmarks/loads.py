"""Files for transfers, of bytes that no compression makes smaller, and the check that they came."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from backends.job import LocalFile
from backends.ssh.parts import digest_of

_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Load:
    """A folder, and all its files as a plan knows them: with their digests."""

    folder: Path
    files: tuple[LocalFile, ...]

    @classmethod
    def new(cls, folder: Path, count: int, size_bytes: int) -> Self:
        """So many files of that size each, a hundred to a folder."""
        files = []
        for number in range(count):
            at = PurePosixPath(f"{number // 100:03}", f"{number:05}.bin")
            here = folder / at
            here.parent.mkdir(parents=True, exist_ok=True)
            with here.open("wb") as file:
                for start in range(0, size_bytes, _CHUNK_BYTES):
                    file.write(os.urandom(min(_CHUNK_BYTES, size_bytes - start)))
            files.append(LocalFile(here, at, size_bytes, digest_of(here)))
        return cls(folder, tuple(files))

    def check(self, copy: Path) -> None:
        """The other folder holds the same, no more and no less; else the benchmark is over."""
        found = {
            PurePosixPath(path.relative_to(copy)): digest_of(path)
            for path in copy.rglob("*")
            if not path.is_dir()
        }
        if found != {file.at: file.sha256 for file in self.files}:
            raise SystemExit(f"what arrived in {copy.name} is not what was sent")
