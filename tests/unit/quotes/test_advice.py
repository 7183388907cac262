"""What would make a recipe fit, or cheaper."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.offer import Money, Offer
from launcher import recipe as recipes
from launcher.quotes import quote, workload
from launcher.quotes.advice import Advice, advice
from launcher.quotes.market import Priced

NOW = datetime(2026, 11, 27, tzinfo=UTC)
LORA = {
    "base_model": "meta-llama/Llama-3.1-8B",
    "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
    "adapter": "lora",
    "lora_r": 16,
    "lora_target_linear": True,
    "sequence_len": 4096,
    "micro_batch_size": 8,
}


def priced(gpu: str, dollars: str) -> Priced:
    return Priced("shop", Offer("shop", gpu, 1, Money(Decimal(dollars)), read_at=NOW))


def told(folder: Path, *offers: Priced, **changes: Any) -> list[Advice]:
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump({**LORA, **changes}))
    recipe = recipes.load(str(path), cwd=folder)
    work = workload.of(recipe, tokens=5_000_000)
    quotes = quote.ordered(quote.all_of(work, offers), "cost")
    best = next((one for one in quotes if one.fits in {"yes", "tight"}), None)
    return advice(recipe, work, offers, best, tokens=5_000_000)


def test_what_makes_it_fit_is_named_and_can_be_pasted(tmp_path: Path) -> None:
    found = told(tmp_path, priced("L40S", "1.95"))
    sets = [one.change.sets for one in found]
    assert ("micro_batch_size=1", "gradient_accumulation_steps=8") in sets
    assert all(one.best.fits in {"yes", "tight"} for one in found)
    assert all(one.change.price for one in found)


def test_where_nothing_is_enough_alone_several_are_told_together(tmp_path: Path) -> None:
    (one,) = told(tmp_path, priced("T4", "0.59"), sequence_len=2048)
    assert "gradient_checkpointing=true" in one.change.sets
    assert "micro_batch_size=1" in one.change.sets


def test_what_saves_little_is_not_told(tmp_path: Path) -> None:
    small = {"micro_batch_size": 1, "gradient_checkpointing": True, "sequence_len": 512}
    assert told(tmp_path, priced("H100", "3.95"), sample_packing=True, **small) == []


def test_a_cheaper_way_names_a_cheaper_gpu(tmp_path: Path) -> None:
    offers = (priced("B300", "40"), priced("A100-80GB", "1"))
    found = told(tmp_path, *offers)
    assert found
    assert {one.best.offer.gpu for one in found} == {"A100-80GB"}


@pytest.mark.parametrize("rank", [0, -3])
def test_a_recipe_that_cannot_be_is_no_traceback(tmp_path: Path, rank: int) -> None:
    from backends.errors import FtlaunchError

    with pytest.raises(FtlaunchError):
        told(tmp_path, priced("L40S", "1.95"), lora_r=rank)
