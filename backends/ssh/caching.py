"""Caches on a machine: filled once under the digest of their content, whoever needs them first.

They may lie on a disk that several machines share, so who fills one holds a claim on it for as
long as it gives signs of life (`filling.py`), and all others wait and find it complete.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import PurePosixPath

from backends.job import Cache
from backends.layout import cache_folder
from backends.protocol import Progress
from backends.ssh import programs, sync
from backends.ssh.errors import Broken
from backends.ssh.host import Host
from backends.ssh.programs import FarError
from backends.ssh.sync import Moved

EXPIRY = timedelta(seconds=90)
"""A claim without a sign of life for this long is nobody's: its machine is gone."""

_TRIES = 5
_SOON = timedelta(minutes=2)


class Caches:
    """The caches below one folder.

    root    the workplace, for its watchdog
    folder  where the caches are
    """

    def __init__(self, host: Host, root: PurePosixPath, folder: PurePosixPath) -> None:
        self._host = host
        self._root = root
        self._folder = folder

    def tree(self, cache: Cache) -> PurePosixPath:
        """Where a cache's files are, or will be."""
        return self.folder(cache) / "tree"

    def folder(self, cache: Cache) -> PurePosixPath:
        """What belongs to a cache."""
        return self._folder / cache_folder(cache)

    def missing(self, caches: Sequence[Cache]) -> list[Cache]:
        """Those that are not there, whole and as they were made. One round trip, or none."""
        if not caches:
            return []
        keys = [cache_folder(cache) for cache in caches]
        request = {**self._request(), "keys": keys}
        answer = programs.ask(self._host, "filling", ["look"], request, timeout=_SOON)
        absent = set(answer["missing"])
        return [cache for cache in caches if cache_folder(cache) in absent]

    def fill(self, cache: Cache, *, told: Progress) -> Moved:
        """Bring a cache, unless another machine does meanwhile; what was sent.

        Raises Refused for a file that has changed, SshError, FarError.
        """
        for tries_left in reversed(range(_TRIES)):
            try:
                moved = self._try(cache, told)
            except Broken:
                if not tries_left:
                    raise
                continue
            if moved is not None:
                return moved
        raise FarError(f"the cache {cache.key!r} could not be completed on the machine")

    def _try(self, cache: Cache, told: Progress) -> Moved | None:
        """None when the claim was lost, or something took files away."""
        request = {
            **self._request(),
            "key": cache_folder(cache),
            "token": os.urandom(8).hex(),
            "expiry_s": EXPIRY.total_seconds(),
            "patience_s": programs.PATIENCE.total_seconds(),
        }
        with programs.channel(self._host, "filling", ["fill"], request) as far:
            while (said := far.hear()["is"]) == "waiting":
                told("waiting for another machine that fills the same cache")
            if said == "complete":
                return Moved(0, 0)
            if said != "claimed":
                return None
            moved = sync.upload(self._host, self.tree(cache), cache.tree.files, told=told)
            far.say([[str(file.at), file.size_bytes] for file in cache.tree.files])
            return moved if far.hear()["is"] == "sealed" else None

    def _request(self) -> dict[str, str]:
        return {"root": str(self._root), "cache_root": str(self._folder)}
