"""The transfer benchmark runs, at tiny sizes: how long anything took is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import measure, movers, transfer
from benchmarks.loads import Load

TINY = transfer.Scale(
    big_bytes=1 << 20,
    files=20,
    file_bytes=1 << 10,
    far_big_bytes=1 << 20,
    far_scp_files=1,
    rounds=2,
    far_rounds=1,
)


@pytest.fixture
def bench(
    tmp_path: Path, missing: Callable[[str, str], object], monkeypatch: pytest.MonkeyPatch
) -> Iterator[transfer.Bench]:
    if why := movers.missing():
        missing("a peer", why)
    monkeypatch.setattr(transfer, "DELAY_S", 0.0)
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results.json")
    with transfer.prepared(tmp_path, TINY) as made:
        yield made


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("case", transfer.CASES)
def test_every_case_runs(
    bench: transfer.Bench, case: str, up: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    transfer.CASES[case](bench, up=up)
    assert "at most" in capsys.readouterr().out
    assert measure.RESULTS.exists()


def test_a_damaged_copy_ends_it(tmp_path: Path) -> None:
    load = Load.new(tmp_path / "load", 2, 1000)
    load.check(load.folder)
    load.files[1].here.write_bytes(b"damaged")
    with pytest.raises(SystemExit, match="not what was sent"):
        load.check(load.folder)


def test_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: None if name == "rsync" else f"/{name}")
    with pytest.raises(SystemExit, match=r"rsync missing here.*apt-get install rsync"):
        transfer.main([])
