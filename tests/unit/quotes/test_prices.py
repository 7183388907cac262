"""Price lists: each row with its source and day, old ones marked, damaged ones named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from backends import kept_prices
from backends.errors import Refused
from backends.jarvis import offers as jarvis
from backends.jarvis.api import Gpu
from backends.modal import catalog as modal
from backends.offer import Money, Need, Offer
from backends.registry import load
from launcher.cli import cli
from launcher.cli.ending import run as command
from launcher.quotes import pricelists
from launcher.quotes.words import hourly

NOW = datetime.now(UTC)
BEGINS = f'{{"schema": 1, "read_at": "{NOW.isoformat()}", '
MODAL_ROWS = {"rates": {"gpu_hour_cost_l4": "0.66", "cpu_hour_cost": "0.05"}}


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without keys, lists or runs."""
    for name in ("JL_API_KEY", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "backends"


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = command(cli, list(argv))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("name", ["jarvis", "modal"])
def test_every_row_that_comes_with_ftlaunch_has_a_source_and_a_day(name: str) -> None:
    (found,) = pricelists.lists_of(name)
    assert found.rows
    assert all(row.source and row.read_at and row.price.amount > 0 for row in found.rows)
    assert found.read_at is not None
    assert not found.is_stale(found.read_at + timedelta(days=30))
    assert found.is_stale(found.read_at + timedelta(days=31))


def test_spot_prices_are_listed_as_spot() -> None:
    (found,) = pricelists.lists_of("jarvis")
    mine = [row for row in found.rows if (row.gpu, row.count, row.region) == ("L4", 1, "IN2")]
    assert [row.spot for row in mine] == [False, True]
    assert mine[1].price.amount < mine[0].price.amount


def test_a_list_of_an_unknown_day_is_old(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "prices", "-b", "skypilot")
    assert code == 0
    assert "unknown" in out
    assert "old" in out


def test_the_younger_list_counts(apart: Path) -> None:
    kept_prices.keep(apart / "modal", MODAL_ROWS, read_at=NOW)
    (found,) = pricelists.lists_of("modal")
    assert (found.source, found.read_at) == (modal.KEPT, NOW)
    cheapest = {row.gpu: row for row in reversed(found.rows)}["L4"]
    assert cheapest.price.amount == Decimal("0.66") + 8 * Decimal("0.05") + 64 * modal.GIB_HOUR
    kept_prices.keep(apart / "modal", MODAL_ROWS, read_at=modal.READ_AT - timedelta(days=1))
    (found,) = pricelists.lists_of("modal")
    assert found.source == modal.SOURCE


def test_a_list_of_a_day_to_come_is_none(apart: Path) -> None:
    kept_prices.keep(apart / "modal", MODAL_ROWS, read_at=NOW + timedelta(days=400))
    (found,) = pricelists.lists_of("modal")
    assert found.source == modal.SOURCE
    kept_prices.keep(apart / "modal", MODAL_ROWS, read_at=NOW)
    (found,) = pricelists.lists_of("modal")
    assert found.source == modal.KEPT


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ("modal", "{"),
        ("modal", "[]"),
        ("modal", BEGINS.rstrip(", ") + "}"),
        ("modal", '{"schema": 1, "read_at": "soon", "rates": {}}'),
        ("modal", BEGINS + '"rates": {"gpu_hour_cost_l4": "cheap"}}'),
        ("modal", BEGINS + '"rates": {"gpu_hour_cost_l4": "-1"}}'),
        ("jarvis", BEGINS + '"currency": "USD", "gpus": [{"gpu": "L4"}], "plans": []}'),
    ],
    # The day is in the texts: two workers would not have one name for a test.
    ids=["cut", "no mapping", "no rates", "no day", "no number", "below zero", "gaps"],
)
def test_a_damaged_list_is_one_sentence_that_names_it(
    apart: Path, capsys: pytest.CaptureFixture[str], backend: str, text: str
) -> None:
    path = apart / backend / kept_prices.FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    code, _, err = ask(capsys, "prices", "-b", backend)
    assert code == 3
    assert f"the price list {path} is damaged" in err
    assert "ftlaunch prices update" in err
    assert "Traceback" not in err
    code, out, err = ask(capsys, "estimate", "quickstart")
    assert code == 0, "one damaged list hides all"
    assert f"{backend}: the price list {path} is damaged" in err
    assert "skypilot" in out
    code, out, err = ask(capsys, "train", "quickstart", "-b", "auto", "--dry-run")
    assert code == 0, err
    assert f"not {backend}: the price list {path} is damaged" in out


def test_a_damaged_list_of_skypilot_s_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ".sky" / "catalogs" / "v8" / "aws" / "vms.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00nonsense")
    code, _, err = ask(capsys, "prices", "-b", "skypilot")
    assert code == 3
    assert f"SkyPilot's price list {path} is damaged" in err
    assert "sky show-gpus" in err


def test_a_damaged_list_is_replaced_by_what_is_asked(apart: Path) -> None:
    path = apart / "modal" / kept_prices.FILE
    path.parent.mkdir(parents=True)
    path.write_text("{")
    kept_prices.keep(apart / "modal", MODAL_ROWS, read_at=NOW)
    (found,) = pricelists.lists_of("modal")
    assert found.read_at == NOW


def test_without_a_key_nothing_is_asked_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = ask(capsys, "prices", "update")
    assert code == 0
    assert out == ""
    assert "jarvis: not asked: there is no key for Jarvis Labs" in err
    assert "no list is younger now" in err
    code, _, err = ask(capsys, "prices", "update", "-b", "jarvis")
    assert code == 4


def test_a_price_in_rupees_has_its_dollars_beside_it() -> None:
    gpu = Gpu("L4", "india-noida-01", None, 38.72, None, 8, 0, 24, 28, 124)
    rupees = jarvis.Market([gpu], [], "INR", "asked", NOW, live=True)
    (found,) = jarvis.offers(rupees, Need(gpus=(("L4", 1),)), kind=jarvis.CONTAINER)
    assert found.price == Money(Decimal("38.72"), "INR")
    assert hourly(found) == "INR 38.72 ($0.45)"
    assert found.dollars(Money(Decimal("77.44"), "INR")) == Decimal("0.908")
    raw = json.loads(json.dumps(jarvis.to_json([gpu], [], "INR")))
    again = jarvis.from_json(raw, NOW)
    assert list(again.gpus) == [gpu]
    (same,) = jarvis.offers(again, Need(gpus=(("L4", 1),)), kind=jarvis.CONTAINER)
    assert (same.price, same.usd, same.source) == (found.price, found.usd, jarvis.KEPT)


def test_what_nobody_knows_the_rate_of_has_no_dollars() -> None:
    offer = Offer("shop", "L4", 1, Money(Decimal(40), "INR"))
    assert offer.dollars(offer.price) is None
    assert hourly(offer) == "INR 40.00"
    assert offer.dollars(Money(Decimal(2))) == 2


def test_a_stranger_s_backend_may_have_no_prices() -> None:
    assert load("local", state_dir=Path("/nowhere")).offers(Need(cpu_only=True), live=False)
    assert pricelists.lists_of("local") == ()


def test_an_odd_file_is_no_reason_to_fail_a_launch(tmp_path: Path) -> None:
    (tmp_path / "modal").write_text("in the way")
    kept_prices.keep(tmp_path / "modal", MODAL_ROWS, read_at=NOW)
    with pytest.raises(Refused):
        kept_prices.kept(tmp_path / "modal", modal.from_json, since=modal.READ_AT)
