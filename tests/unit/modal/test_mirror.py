"""What a container copies to the Volume: results whole, and a verdict last of all."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import NoReturn

import pytest

from backends.modal import ftlaunch_job
from backends.modal.ftlaunch_job import Mirror


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    (tmp_path / "home" / "output").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    return Mirror(tmp_path / "home", tmp_path / "there", None)


def state(mirror: Mirror, phase: str) -> None:
    (mirror.home / "state.json").write_text(json.dumps({"phase": phase}))


def test_a_result_that_cannot_be_copied_is_not_passed_over(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the verdict would speak of a file that goes with the container's disk."""
    (mirror.home / "output" / "model").write_text("weights")

    def broken(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(ftlaunch_job, "place", broken)
    with pytest.raises(OSError, match="input/output error"):
        mirror.push({}, final=True, tell=False)


def test_a_verdict_is_told_with_the_final_push_only(mirror: Mirror) -> None:
    """The job may have ended since it was last looked at, and its results are not here yet."""
    state(mirror, "running")
    mirror.push({}, final=False)
    state(mirror, "succeeded")
    mirror.push({}, final=False)
    assert json.loads((mirror.there / "state.json").read_text()) == {"phase": "running"}
    mirror.push({}, final=True)
    assert json.loads((mirror.there / "state.json").read_text()) == {"phase": "succeeded"}


def test_a_checkpoint_that_was_given_is_an_input_and_taken_back_as_one(tmp_path: Path) -> None:
    """It came from an earlier job: nobody wrote a list of its files on this Volume."""
    mirror = Mirror(tmp_path / "home", tmp_path / "there", "output/checkpoint-*")
    given = Path("inputs/resumed/output/checkpoint-7/weights")
    half = Path("output/checkpoint-9/weights")
    for path in (given, half):
        (mirror.there / path).parent.mkdir(parents=True)
        (mirror.there / path).write_text("w")
    mirror.home.mkdir()
    mirror.restore()
    assert (mirror.home / given).read_text() == "w"
    assert not (mirror.home / half).exists()
