"""The objects below one address, whatever kind of bucket that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_AT_ONCE = 8
_PART_BYTES = 8 << 20


class Objects:
    """Named contents. Raises what fsspec does: FileNotFoundError, PermissionError, and others."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        # A listing that was right a moment ago is what this must never see.
        how: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if url.startswith("file:"):
            how["auto_mkdir"] = True
        self._fs, top = url_to_fs(url, **how)
        self._top = str(top).rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._top}/{name}" if name else self._top

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def write(self, name: str, content: bytes) -> None:
        """Replace an object."""
        self._fs.pipe_file(self._at(name), content)

    def put(self, name: str, path: Path) -> None:
        """Replace an object by a file's content."""
        self._fs.put_file(str(path), self._at(name))

    def drop(self, name: str) -> None:
        """Remove one object, if it is there."""
        try:
            self._fs.rm_file(self._at(name))
        except FileNotFoundError:
            return

    def remove(self, folder: str) -> None:
        """Remove all objects below a name."""
        each(self.drop, [f"{folder}/{name}" for name in self.sizes(folder)])

    # ── reading ───────────────────────────────────────────────────────────────────────────────

    def read(self, name: str) -> bytes:
        """An object's content."""
        return bytes(self._fs.cat_file(self._at(name)))

    def part(self, name: str, start: int, end: int) -> bytes:
        """Some of an object's content, which is that long."""
        return bytes(self._fs.cat_file(self._at(name), start=start, end=end))

    def size(self, name: str) -> int | None:
        """An object's size in bytes; None when it is not there."""
        try:
            found = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def sizes(self, folder: str) -> dict[str, int]:
        """The objects below a name, with their sizes in bytes, by their names below it."""
        top = self._at(folder) + "/"
        found = self._fs.find(self._at(folder), detail=True)
        return {
            path.removeprefix(top): int(info["size"])
            for path, info in found.items()
            if path.startswith(top)
        }

    def folders(self, folder: str) -> list[str]:
        """The names directly below a name."""
        return sorted({name.partition("/")[0] for name in self.sizes(folder)})

    def get(self, name: str, path: Path) -> None:
        """Copy an object into a file, part by part; what the file has already is not read again."""
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(name)
        with path.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
                file.seek(0)
            while (at := file.tell()) < size:
                content = self.part(name, at, min(size, at + _PART_BYTES))
                if not content:
                    raise OSError(f"{name} ended early")
                file.write(content)


def each(do: Callable[[T], object], items: Iterable[T]) -> None:
    """Do it for all, several at once. Raises what the first that failed has raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = [pool.submit(do, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
