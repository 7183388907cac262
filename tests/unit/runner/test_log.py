"""The log: numbered lines in segments, whatever a step prints."""

from __future__ import annotations

import signal
import subprocess

import pytest
from runner_rig import Rig, check_numbers, step

from backends import runner


def split(*chunks: bytes, progress_s: float = 0.0) -> list[bytes]:
    """The lines that a stream becomes; time stands still."""
    found: list[bytes] = []
    lines = runner.Lines(found.append, now=lambda: 0.0)
    before, runner.PROGRESS_S = runner.PROGRESS_S, progress_s
    try:
        for chunk in chunks:
            lines.feed(chunk)
        lines.end()
    finally:
        runner.PROGRESS_S = before
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_how_the_bytes_arrive_does_not_change_the_lines(size: int) -> None:
    stream = b"one\r\ntwo\n\n 1%\r 2%\rlast\nno end"
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert split(*chunks) == [b"one", b"two", b"", b" 1%", b" 2%", b"last", b"no end"]


def test_of_a_progress_bar_the_first_and_what_remains_visible_are_logged() -> None:
    bar = b"".join(b"%3d%%|##\r" % at for at in range(100))
    hour = 3600.0
    assert split(bar + b"done\n", progress_s=hour) == [b"  0%|##", b"done"]
    assert split(bar + b"\n", progress_s=hour) == [b"  0%|##", b" 99%|##"]
    assert split(bar, progress_s=hour) == [b"  0%|##", b" 99%|##"]


def test_a_line_written_over_a_progress_bar_is_kept() -> None:
    said = b" 5%|#\r        \r{'loss': 1.5}\n 5%|#\r 6%|#\r"
    assert split(said, progress_s=3600.0) == [b" 5%|#", b"{'loss': 1.5}", b" 6%|#"]


def test_a_huge_line_is_cut_between_characters_and_loses_nothing() -> None:
    line = "ä€𝄞x".encode() * 50_000
    found = split(line + b"\n")
    assert b"".join(found) == line
    assert max(map(len, found)) <= 64 << 10
    assert all(one.decode("utf-8") for one in found)
    assert b"".join(split(*[line[at : at + 1000] for at in range(0, len(line), 1000)])) == line


def test_a_hundred_thousand_lines_have_no_gap_and_no_double(rig: Rig) -> None:
    rig.plan(step("for n in range(100000): print('line', n)"))
    state = rig.run()
    lines = rig.lines()
    assert [line.text for line in lines] == [f"line {n}" for n in range(100_000)]
    check_numbers(lines)
    assert (state["log_lines"], state["log_lines_lost"]) == (100_000, 0)
    assert state["steps"][0]["segments"] == len(list(rig.folder.glob("logs/only/*.log"))) > 1


def test_numbers_go_on_over_the_steps(rig: Rig) -> None:
    rig.plan(step("print(1); print(2)", name="a"), step("print(3)", name="b"))
    state = rig.run()
    check_numbers(rig.lines("a") + rig.lines("b"))
    assert [row["first_seq"] for row in state["steps"]] == [1, 3]


def test_binary_output_is_logged_as_text(rig: Rig) -> None:
    rig.plan(step("import os; os.write(1, bytes(range(256)) * 300)"))
    state = rig.run()
    assert state["phase"] == "succeeded"
    check_numbers(rig.lines())
    assert "\\xff" in rig.texts()[-1]


def test_standard_error_is_part_of_the_log(rig: Rig) -> None:
    rig.plan(step("import os; os.write(2, b'err\\n'); os.write(1, b'out\\n')"))
    rig.run()
    assert rig.texts() == ["err", "out"]


def test_the_foreground_run_copies_its_log(rig: Rig) -> None:
    rig.plan(step("for n in range(3000): print('line', n)"))
    done = rig.command("run")
    stored = b"".join(path.read_bytes() for path in sorted(rig.folder.glob("logs/only/*")))
    assert done.out == stored


def test_whoever_reads_the_copy_may_go_away(rig: Rig) -> None:
    rig.plan(step("for n in range(3000): print('line', n)"))
    running = rig.popen(stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    assert running.wait() == 0
    assert len(rig.texts()) == 3000


def test_whoever_reads_the_copy_may_sleep(rig: Rig) -> None:
    rig.plan(step("for n in range(60000): print('line', n, 'x' * 80)"))
    running = rig.popen(stdout=subprocess.PIPE)
    assert running.stdout is not None
    with running.stdout:
        assert running.wait() == 0
    assert len(rig.texts()) == 60_000


def test_metrics_are_the_named_groups_that_are_numbers(rig: Rig) -> None:
    said = [
        "loss=1.5 step=3/10",
        "nothing here",
        "loss=nan",
        "loss=-inf step=4/10",
        "loss=word",
        "loss=1,234.5",
        "loss=" + "9" * 5000,
    ]
    rig.plan(
        step(f"print({chr(10).join(said)!r})"),
        metrics=[r"loss=(?P<loss>\S+)", r"step=(?P<step>\d+)/(?P<steps>\d+)", "(?P<never>x)?y"],
    )
    state = rig.run()
    rows = [{key: row[key] for key in row if key not in ("seq", "time")} for row in rig.metrics()]
    assert rows == [
        {"loss": 1.5, "step": 3, "steps": 10},
        {"loss": "nan"},
        {"loss": "-inf", "step": 4, "steps": 10},
        {"loss": 1234.5},
        {"loss": "inf"},
    ]
    assert state["last_metrics"] == {"loss": "inf", "step": 4, "steps": 10}
    assert state["metrics_segments"] == 1
    numbers = {line.seq: line.text for line in rig.lines()}
    assert all("loss" in numbers[row["seq"]] for row in rig.metrics())


def test_the_state_tells_of_segments_while_the_step_runs(rig: Rig) -> None:
    rig.plan(
        step("import time; print('loss=1', flush=True); time.sleep(1000)"), metrics=["=(?P<a>1)"]
    )
    running = rig.popen()
    rig.until_there("state.json")
    told = lambda: (s := rig.state())["metrics_segments"] and s["steps"][0]["segments"]  # noqa: E731
    assert rig.until("the segments in the state", told) == 1
    running.send_signal(signal.SIGKILL)
    running.wait()
