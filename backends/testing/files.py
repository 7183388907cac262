"""Cases: the files of a run directory, read in place and brought here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path, PurePosixPath

import pytest

from backends.errors import Lost
from backends.job import Attached, Files, LocalTree
from backends.lease import Lease
from backends.testing import child, programs
from backends.testing.bench import Bench
from backends.testing.inputs import ODD_NAMES
from backends.testing.rig import Rig

BIG = "big"
_BIG_LINES = 600_000
_CONTENT = {**dict.fromkeys(ODD_NAMES, 2), "medium": 100_000, "none": 0, BIG: _BIG_LINES}


class FilesOfAJob:
    """`read`, `fetch` and `listing`, on the files of one job that has ended."""

    @pytest.fixture(scope="class")
    @classmethod
    def ended(cls, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lease]:
        """A job that has made files of many names and sizes."""
        bench = Bench(rig, tmp_path_factory.mktemp("given"))
        given = LocalTree((bench.file("given", b"given"),))
        yield bench.run(programs.MAKES_FILES, json.dumps(_CONTENT), inputs=(given,))
        bench.clean()

    # ── read ──────────────────────────────────────────────────────────────────────────────────

    def test_read_from_an_offset(self, bench: Bench, ended: Lease) -> None:
        """read: the bytes of one file, from the offset on, to its present end."""
        whole = _content("medium")
        assert _told(bench.content(ended.files, "output/medium")) == _told(whole)
        for offset in (1, 6, 65_536, len(whole) - 1):
            rest = bench.content(ended.files, "output/medium", offset=offset)
            assert _told(rest) == _told(whole[offset:])

    def test_read_odd_names(self, bench: Bench, ended: Lease) -> None:
        """read: a file may have any name."""
        for name in ODD_NAMES:
            assert bench.content(ended.files, PurePosixPath("output", name)) == _content(name)

    def test_read_past_the_end(self, bench: Bench, ended: Lease) -> None:
        """read: an offset past the end yields nothing."""
        size = len(_content("medium"))
        assert bench.content(ended.files, "output/medium", offset=size) == b""
        assert bench.content(ended.files, "output/medium", offset=size + 10) == b""
        assert bench.content(ended.files, "output/none") == b""

    @pytest.mark.parametrize("follow", [False, True])
    @pytest.mark.parametrize("path", ["output/missing", "missing/too", "output"])
    def test_read_what_is_not_there(
        self, bench: Bench, ended: Lease, path: str, follow: bool
    ) -> None:
        """read: raises Lost when there is no such file; where it takes long to look, after b""."""
        place = PurePosixPath(path)
        with pytest.raises(Lost):
            _first_said(bench, ended.files, place, follow=follow)

    @pytest.mark.parametrize("path", ["/etc/passwd", "../../../../../../../etc/passwd"])
    def test_read_stays_inside(self, bench: Bench, ended: Lease, path: str, tmp_path: Path) -> None:
        """read: a path that leaves the run directory is no file of it."""
        with pytest.raises(Lost):
            bench.content(ended.files, path)
        with pytest.raises(Lost):
            bench.backend.fetch(ended.files, [PurePosixPath(path)], tmp_path / "into")

    def test_read_files_nobody_has(self, bench: Bench, tmp_path: Path) -> None:
        """read: raises Lost when the run directory is not there; so do fetch and listing."""
        nobody = Files(bench.backend.name, f"{bench.new_name()}.0")
        with pytest.raises(Lost):
            bench.content(nobody, "state.json")
        with pytest.raises(Lost):
            bench.backend.fetch(nobody, [PurePosixPath("state.json")], tmp_path)
        with pytest.raises(Lost):
            bench.backend.listing(nobody)

    def test_follow(self, bench: Bench) -> None:
        """read: with `follow` it goes on as the file grows, yields b"" in a silence, never ends."""
        lease = bench.start(programs.GROWS)
        whole = b"".join(b"line %d\n" % number for number in range(20))
        path = PurePosixPath("output/growing")
        got = b""
        following = bench.backend.read(lease.files, path, offset=3, follow=True)
        with closing(_generator(following)) as chunks:
            for chunk in chunks:
                got += chunk
                if len(got) >= len(whole) - 3 and chunk == b"":
                    break
        assert got == whole[3:]

    # ── fetch ─────────────────────────────────────────────────────────────────────────────────

    def test_fetch(self, bench: Bench, ended: Lease, tmp_path: Path) -> None:
        """fetch: copies files to the folder, keeping their relative paths, byte for byte."""
        paths = [PurePosixPath("output", name) for name in _CONTENT]
        bench.backend.fetch(ended.files, paths, tmp_path / "new" / "into here")
        for name, path in zip(_CONTENT, paths, strict=True):
            assert (tmp_path / "new" / "into here" / path).read_bytes() == _content(name)
        assert _names(tmp_path / "new" / "into here") == {str(path) for path in paths}

    def test_fetch_again(self, bench: Bench, ended: Lease, tmp_path: Path) -> None:
        """fetch: a file that is already there with the same content is not sent again."""
        path = PurePosixPath("output/medium")
        bench.backend.fetch(ended.files, [path], tmp_path)
        before = (tmp_path / path).stat()
        bench.backend.fetch(ended.files, [path], tmp_path)
        after = (tmp_path / path).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_fetch_over_another(self, bench: Bench, ended: Lease, tmp_path: Path) -> None:
        """fetch: a file that is there with other content, even of the same size, is replaced."""
        path = PurePosixPath("output/medium")
        whole = _content("medium")
        for wrong in (b"X" + whole[1:], whole[:-1] + b"X", whole[:9], whole + b"X"):
            (tmp_path / "output").mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(wrong)
            bench.backend.fetch(ended.files, [path], tmp_path)
            assert _told((tmp_path / path).read_bytes()) == _told(whole)

    def test_fetch_cut_short(self, bench: Bench, ended: Lease, tmp_path: Path) -> None:
        """fetch: a file appears under its name only when whole; one that was begun is continued."""
        whole = _content(BIG)
        path = f"output/{BIG}"
        cut = child.run(
            bench.rig,
            do="fetch",
            files=asdict(ended.files),
            paths=[path],
            into=str(tmp_path),
            limit_bytes=len(whole) // 2,
        )
        assert cut.returncode != 0, "the disk limit was meant to stop this fetch"
        assert not (tmp_path / path).exists()
        bench.backend.fetch(ended.files, [PurePosixPath(path)], tmp_path)
        assert _told((tmp_path / path).read_bytes()) == _told(whole)
        assert _names(tmp_path) == {path}, "something was left behind"

    def test_fetch_what_is_not_there(self, bench: Bench, ended: Lease, tmp_path: Path) -> None:
        """fetch: raises Lost when a file is missing."""
        with pytest.raises(Lost):
            bench.backend.fetch(ended.files, [PurePosixPath("output/missing")], tmp_path)
        assert _names(tmp_path) == set()

    def test_what_was_fetched_is_ours(self, bench: Bench, tmp_path: Path) -> None:
        """fetch: the copy is a file of its own: changing it changes nothing there."""
        lease = bench.run(programs.MAKES_FILES, '{"result": 3}')
        path = PurePosixPath("output/result")
        bench.backend.fetch(lease.files, [path], tmp_path)
        with (tmp_path / path).open("ab") as file:
            file.write(b"mine")
        assert bench.content(lease.files, path) == b"result\n" * 3

    # ── listing ───────────────────────────────────────────────────────────────────────────────

    def test_listing(self, bench: Bench, ended: Lease) -> None:
        """listing: every regular file the job made or was given, with its size."""
        found = bench.backend.listing(ended.files)
        expected = {PurePosixPath("output", name): len(_content(name)) for name in _CONTENT}
        expected[PurePosixPath("bundle/given")] = len(b"given")
        assert {path: found.get(path) for path in expected} == expected

    def test_listing_leaves_out_what_is_attached(self, bench: Bench, ended: Lease) -> None:
        """listing: inputs attached from other jobs and caches are not listed."""
        given = Attached(ended.files, PurePosixPath("inputs/earlier"))
        lease = bench.run(programs.MAKES_FILES, '{"own": 1}', inputs=(given,))
        found = bench.backend.listing(lease.files)
        assert PurePosixPath("output/own") in found
        assert [path for path in found if path.parts[0] == "inputs"] == []


def _told(content: bytes) -> tuple[int, str]:
    """Length and digest: of two large contents pytest would spell out every difference."""
    return len(content), hashlib.sha256(content).hexdigest()


def _content(name: str) -> bytes:
    return (name.encode() + b"\n") * _CONTENT[name]


def _names(folder: Path) -> set[str]:
    return {
        str((Path(where) / name).relative_to(folder))
        for where, _, names in os.walk(folder)
        for name in names
    }


def _first_said(bench: Bench, files: Files, place: PurePosixPath, *, follow: bool) -> bytes:
    """What comes of a read first, silence aside; it may refuse at the call, or only then."""
    with closing(_generator(bench.backend.read(files, place, offset=0, follow=follow))) as chunks:
        return next(chunk for chunk in chunks if chunk)


def _generator(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield from chunks
