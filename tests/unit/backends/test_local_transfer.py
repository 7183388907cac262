"""Files of a local job, brought out: continued, verified, never torn."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path, PurePosixPath

import pytest

from backends.errors import Lost, Refused
from backends.local import transfer

NAME = PurePosixPath("output/a model")
WHOLE = os.urandom(3_000_000)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "output").mkdir(parents=True)
    (folder / NAME).write_bytes(WHOLE)
    return folder


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def part_of(into: Path) -> Path:
    """Where the unfinished copy of NAME lies."""
    with transfer._part_of(into / NAME) as (_, name):
        return name


def vouch(home: Path, content: bytes) -> None:
    row = {
        "path": str(NAME),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    text = {"schema": 1, "job": "a", "verdict": "succeeded", "files": [row]}
    (home / "manifest.json").write_text(json.dumps(text))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.rglob("*") if not entry.is_dir())


class Counting:
    """A file that counts what is written to it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("r+b")
        self.written = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        self.written += len(data)
        return self.file.write(data)


@pytest.mark.parametrize(
    ("begun", "sent"),
    [
        (b"", len(WHOLE)),
        (WHOLE[:2_500_000], 500_000),
        (WHOLE, 0),
        (WHOLE + b"too much", len(WHOLE) - (2 << 20)),
        (WHOLE[:2_100_000] + b"wrong from here", len(WHOLE) - (2 << 20)),
        (b"wrong", len(WHOLE)),
    ],
    ids=["nothing", "most", "all", "more", "a wrong end", "all wrong"],
)
def test_what_is_right_already_is_kept(home: Path, tmp_path: Path, begun: bytes, sent: int) -> None:
    (tmp_path / "part").write_bytes(begun)
    part = Counting(tmp_path / "part")
    with (home / NAME).open("rb") as source:
        transfer._complete(part, source)  # type: ignore[arg-type]
    part.file.close()
    assert (tmp_path / "part").read_bytes() == WHOLE
    cloned = begun == b"" and part.written == 0
    assert cloned or part.written == sent


def test_a_begun_file_is_finished_and_takes_its_name(home: Path, into: Path) -> None:
    (into / "output").mkdir(parents=True)
    part_of(into).write_bytes(WHOLE[:1000])
    transfer.fetch(home, [NAME], into)
    assert (into / NAME).read_bytes() == WHOLE
    assert names(into) == [NAME.name]


def test_a_name_as_long_as_the_disk_allows(home: Path, into: Path) -> None:
    long = PurePosixPath("output", "ü" * 127)
    (home / long).write_bytes(b"x")
    transfer.fetch(home, [long], into)
    assert (into / long).read_bytes() == b"x"


def test_what_the_manifest_does_not_vouch_for_any_more_is_lost(home: Path, into: Path) -> None:
    vouch(home, b"what it was")
    with pytest.raises(Lost, match="a model"):
        transfer.fetch(home, [NAME], into)
    assert names(into) == []


def test_what_the_manifest_vouches_for_is_brought(home: Path, into: Path) -> None:
    vouch(home, WHOLE)
    transfer.fetch(home, [NAME], into)
    assert (into / NAME).read_bytes() == WHOLE


def test_two_who_fetch_the_same_do_not_spoil_it(home: Path, into: Path) -> None:
    failures: list[BaseException] = []

    def go() -> None:
        try:
            for _ in range(5):
                transfer.fetch(home, [NAME], into)
                (into / NAME).unlink(missing_ok=True)
            transfer.fetch(home, [NAME], into)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    transfer.fetch(home, [NAME], into)
    assert failures == []
    assert (into / NAME).read_bytes() == WHOLE
    assert names(into) == [NAME.name]


def test_a_link_to_a_file_is_brought_as_the_file(home: Path, into: Path) -> None:
    (home / "output/latest").symlink_to(NAME.name)
    transfer.fetch(home, [PurePosixPath("output/latest")], into)
    assert (into / "output/latest").read_bytes() == WHOLE
    assert not (into / "output/latest").is_symlink()


def test_a_link_to_nothing_is_lost(home: Path, into: Path) -> None:
    (home / "output/latest").symlink_to("nothing")
    with pytest.raises(Lost):
        transfer.fetch(home, [PurePosixPath("output/latest")], into)


def test_a_folder_in_the_way_is_a_sentence(home: Path, into: Path) -> None:
    (into / NAME).mkdir(parents=True)
    with pytest.raises(Refused, match="is a folder"):
        transfer.fetch(home, [NAME], into)


def test_a_file_where_a_folder_must_be_is_a_sentence(home: Path, into: Path) -> None:
    into.write_text("in the way")
    with pytest.raises(Refused, match="cannot be written"):
        transfer.fetch(home, [NAME], into)


def test_listing_passes_over_links(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"x")
    (home / "inputs").symlink_to(tmp_path / "elsewhere")
    (home / "output/latest").symlink_to(NAME.name)
    assert transfer.listing(home) == {NAME: len(WHOLE)}
