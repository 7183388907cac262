"""A run directory's files, read from outside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from backends import rundir
from backends.lease import Phase
from backends.offer import FREE

AT = "2026-01-01T00:00:00.250Z"


def test_a_log_line_has_number_time_and_text() -> None:
    line = rundir.parse_line(b"0000000012 2026-01-01T00:00:00.250Z  two  blanks stay \r\n")
    assert line is not None
    assert line.seq == 12
    assert line.time == datetime(2026, 1, 1, 0, 0, 0, 250_000, UTC)
    assert line.text == " two  blanks stay "


def test_an_empty_text_is_a_line() -> None:
    line = rundir.parse_line(f"0000000001 {AT} ".encode())
    assert line is not None
    assert line.text == ""


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"plain text", b"12", b"12 yesterday text", "١٢ 2026 x".encode()]
)
def test_a_line_of_somebody_else_is_none(raw: bytes) -> None:
    assert rundir.parse_line(raw) is None


def test_segments_have_six_digits() -> None:
    assert rundir.log_segment("train", 1) == PurePosixPath("logs/train/000001.log")
    assert rundir.metric_segment(12) == PurePosixPath("metrics/000012.jsonl")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_half_a_file_is_none(content: bytes) -> None:
    assert rundir.parse_state(content) is None
    assert rundir.parse_manifest(content) is None


def test_a_manifest_vouches_for_files() -> None:
    text = {
        "schema": 1,
        "job": "demo",
        "verdict": "failed",
        "files": [{"path": "output/a b", "size": 3, "sha256": "00"}],
    }
    found = rundir.parse_manifest(json.dumps(text).encode())
    assert found is not None
    assert (found.job, found.verdict) == ("demo", "failed")
    assert found.files == (rundir.OutputFile(PurePosixPath("output/a b"), 3, "00"),)


def test_a_manifest_without_hashes_is_none() -> None:
    assert rundir.parse_manifest(b'{"files": [{"path": "x", "size": 1}]}') is None


def test_checkpoints_pass_over_what_they_do_not_know() -> None:
    rows = [{"path": "output/checkpoint-4", "complete": True, "bytes": 9}, {"no": "path"}, 7]
    expected = rundir.Checkpoint(PurePosixPath("output/checkpoint-4"), True, 9)
    assert rundir.checkpoints({"checkpoints": rows}) == (expected,)
    assert rundir.checkpoints({"checkpoints": None}) == ()
    assert rundir.checkpoints(None) == ()


@pytest.mark.parametrize("phase", ["succeeded", "failed", "stopped", "expired", "lost"])
def test_a_verdict_does_not_need_a_living_runner(phase: str) -> None:
    seen = rundir.observation({"phase": phase, "exit_code": 4, "reason": "why"}, alive=False)
    assert (seen.phase, seen.exit_code, seen.reason) == (Phase(phase), 4, "why")


@pytest.mark.parametrize("phase", ["starting", "running", "stopping", "of-a-newer-version", None])
def test_without_a_verdict_a_dead_runner_means_lost(phase: str | None) -> None:
    seen = rundir.observation({"phase": phase}, alive=False, cost=FREE)
    assert (seen.phase, seen.exit_code, seen.cost) == (Phase.LOST, None, FREE)
    assert seen.reason


def test_a_living_runner_that_has_written_nothing_is_starting() -> None:
    assert rundir.observation(None, alive=True).phase is Phase.STARTING
    assert rundir.observation({"phase": "stopping"}, alive=True).phase is Phase.STOPPING


def test_a_running_job_has_no_exit_code() -> None:
    assert rundir.observation({"phase": "running", "exit_code": 0}, alive=True).exit_code is None
