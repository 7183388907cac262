"""Kept files that are here because their cluster's disk is gone."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from backends.errors import Lost
from backends.skypilot.copies import Copies

LOG = PurePosixPath("logs/a.log")


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    (tmp_path / "kept" / "job" / "logs").mkdir(parents=True)
    (tmp_path / "kept" / "job" / LOG).write_bytes(b"a log")
    return Copies(tmp_path / "kept")


def test_they_are_read_listed_and_copied(copies: Copies, tmp_path: Path) -> None:
    assert copies.listing("job") == {LOG: 5}
    assert b"".join(copies.read("job", LOG, offset=2, follow=False)) == b"log"
    copies.fetch("job", [LOG], tmp_path / "into")
    assert (tmp_path / "into" / LOG).read_bytes() == b"a log"
    (sent,) = copies.files("job")
    assert (sent.at, sent.size_bytes) == (LOG, 5)


def test_what_is_not_there_is_lost(copies: Copies) -> None:
    with pytest.raises(Lost, match="no file"):
        copies.read("job", PurePosixPath("no"), offset=0, follow=False)
    copies.forget("job")
    assert not copies.has("job")


def test_a_file_that_is_there_already_is_left(copies: Copies, tmp_path: Path) -> None:
    copies.fetch("job", [LOG], tmp_path)
    before = (tmp_path / LOG).stat().st_ino
    copies.fetch("job", [LOG], tmp_path)
    assert (tmp_path / LOG).stat().st_ino == before
    (tmp_path / LOG).write_bytes(b"other")
    copies.fetch("job", [LOG], tmp_path)
    assert (tmp_path / LOG).read_bytes() == b"a log"


def test_a_copy_that_broke_off_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept" / ".job").mkdir(parents=True)
    assert not Copies(tmp_path / "kept").has("job")
