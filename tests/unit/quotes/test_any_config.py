"""Whatever a config holds behind any key: an estimate, or an error of ours."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.errors import FtlaunchError
from backends.offer import Money, Offer
from launcher import recipe as recipes
from launcher.estimate import shapes
from launcher.quotes import quote, workload
from launcher.quotes.advice import advice
from launcher.quotes.market import Priced

CORPUS = [
    yaml.safe_load(path.read_text())
    for path in sorted((Path(__file__).parent / "corpus").glob("*.yml"))
]
KEYS = sorted({key for config in CORPUS for key in config})
OFFERS = [
    Priced("shop", Offer("shop", gpu, count, Money(Decimal("1.5")), read_at=datetime.now(UTC)))
    for gpu, count in (("T4", 1), ("H100", 8), ("what-is-this", 1))
]
SHAPE = shapes.find("Qwen/Qwen2.5-0.5B")

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-2, max_value=10**6),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["lora", "full", "zero3.json", "dpo", "auto", "true", "1e999", "-1", "\0", "~"]
    ),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), inner, max_size=3),
    ),
    max_leaves=5,
)


def estimated(folder: Path, config: Any) -> None:
    path = folder / "mine.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    with suppress(FtlaunchError):
        found = recipes.load(str(path), cwd=folder)
        work = workload.of(found, shape=SHAPE)
        quotes = quote.ordered(quote.all_of(work, OFFERS), "cost")
        assert len(quotes) == len(OFFERS)
        advice(found, work, OFFERS, None, shape=SHAPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("any")
    (made / "rows.jsonl").write_text('{"text": "hi"}\n' * 9)
    return made


@settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.sampled_from(CORPUS), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_value_behind_any_key(folder: Path, config: dict[str, Any], odd: Any) -> None:
    estimated(folder, {**config, **odd})


@settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.sampled_from(KEYS), VALUES)
@example("num_epochs", "three")
@example("num_epochs", -1)
@example("max_steps", "many")
@example("max_steps", [1])
@example("lora_r", "16")
@example("sequence_len", 10**12)
@example("datasets", "rows.jsonl")
@example("base_model", ["a", "b"])
@example("base_model", "a\0b")
@example("base_model", "a" * 5000)
@example("tokenizer_config", "a" * 5000)
@example("deepspeed", "a" * 5000)
@example("evals_per_epoch", "often")
@example("val_set_size", "a tenth")
@example("deepspeed", ["zero3.json"])
@example("fsdp_config", "full_shard")
def test_one_odd_value_in_a_sound_config(folder: Path, key: str, odd: Any) -> None:
    sound = {
        "base_model": "Qwen/Qwen2.5-0.5B",
        "adapter": "lora",
        "lora_target_linear": True,
        "datasets": [{"path": "rows.jsonl", "type": "completion"}],
        "sequence_len": 512,
        "micro_batch_size": 1,
    }
    estimated(folder, {**sound, key: odd})


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(VALUES)
def test_any_document(folder: Path, document: Any) -> None:
    estimated(folder, document)
