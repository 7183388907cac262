"""What a recipe asks of a GPU: the model's shape, the way to train it, and how many tokens.

Without a tokenizer tokens are counted in bytes: `BYTES_PER_TOKEN` says how, and the quote says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from backends.errors import BadInput
from launcher.estimate import Setup, Shape, setup_of, shapes
from launcher.preflight import jsonrows
from launcher.recipe import Recipe, references
from launcher.recipe.references import Fate, Kind

BYTES_PER_TOKEN = 3.8
"""Of English text and code under today's vocabularies of 32 to 150 thousand: between 3 and 4.5."""

TEMPLATE_TOKENS = 12
"""That a chat template or a prompt's frame puts around one row's text, about."""

PACKED = 0.96
"""The part of packed rows that is not padding."""

MOST_ROWS = 20_000
"""Rows of a file that are looked at; the rest is taken to be like them, by its bytes."""


@dataclass(frozen=True)
class Data:
    """The training data, or what is known of it.

    rows    of one epoch
    tokens  of one epoch as they are fed, padding included
    longest tokens of the longest row, cut at the sequence length
    fed     tokens of one row as it is fed, on average
    how     where this comes from, in a phrase
    """

    rows: int
    tokens: int
    longest: int
    fed: float
    how: str


@dataclass(frozen=True)
class Workload:
    """What is to be done. `data` is None where nobody can tell how much there is."""

    shape: Shape
    setup: Setup
    data: Data | None
    epochs: float
    max_steps: int | None
    evaluations: int
    merges: bool
    why_no_data: str = ""

    @property
    def setup_fed(self) -> Setup:
        """The setup with rows as long as they are fed on average: what time depends on."""
        if self.data is None or self.setup.packing:
            return self.setup
        return self.setup.but(seq_len=max(1, round(self.data.fed)))

    @property
    def setup_longest(self) -> Setup:
        """The setup with rows as long as the longest: what the peak of memory depends on."""
        if self.data is None or self.setup.packing:
            return self.setup
        return self.setup.but(seq_len=max(1, self.data.longest))


def of(recipe: Recipe, *, shape: Shape | None = None, tokens: int | None = None) -> Workload:
    """What a recipe asks for.

    shape   the model's, where neither the table nor a config.json has it
    tokens  of one epoch, where the data are not here
    Raises BadInput for a model whose shape nobody knows, Refused for a config that cannot be
    estimated.
    """
    config = recipe.config
    setup = setup_of(config, base_dir=recipe.base_dir)
    found = shape or shape_of(recipe)
    data, why = _data(recipe, setup, tokens)
    return Workload(
        shape=found,
        setup=setup,
        data=data,
        epochs=float(config.get("num_epochs") or 1),
        max_steps=int(config["max_steps"]) if config.get("max_steps") else None,
        evaluations=_evaluations(config),
        merges=recipe.launch.steps.merge and setup.adapted,
        why_no_data=why,
    )


def shape_of(recipe: Recipe) -> Shape:
    """A model that lies here says its own shape; another one is looked up. Raises BadInput."""
    name = str(recipe.config.get("base_model") or "")
    if not name:
        raise BadInput("the recipe names no base_model", hint="add one: base_model: ORG/NAME")
    local = recipe.base_dir / name / "config.json"
    if local.is_file():
        return shapes.from_config_file(local)
    return shapes.find(name)


def _evaluations(config: dict[str, Any]) -> int:
    """How often the evaluation data are gone through, for each epoch or by number of times."""
    per_epoch = config.get("evals_per_epoch")
    return int(per_epoch) if per_epoch else 1


def _data(recipe: Recipe, setup: Setup, tokens: int | None) -> tuple[Data | None, str]:
    if tokens is not None:
        rows = max(1, tokens // setup.seq_len)
        return Data(rows, tokens, setup.seq_len, setup.seq_len, "the number you gave"), ""
    lengths: list[float] = []
    weight = 0.0
    for ref in references.find(recipe.config, recipe.base_dir):
        if ref.kind is not Kind.DATA or not str(ref.key[0]).startswith(("datasets", "pretraining")):
            continue
        if ref.fate is not Fate.LOCAL:
            return None, f"the data {ref.text} are not on this computer"
        for path in ref.paths:
            for file in _files(path):
                seen = _lengths(file, file.stat().st_mtime_ns)
                if not seen:
                    return None, f"{file.name} cannot be counted here: only JSON rows are"
                share = _share(file, seen)
                weight += len(seen) * share
                lengths += seen
    if not lengths:
        return None, "the recipe names no data that lie here"
    return _fed(lengths, weight / len(lengths), setup), ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(each for each in path.rglob("*") if each.is_file())
    else:
        yield path


@cache
def _lengths(file: Path, changed_ns: int) -> list[float]:
    """Tokens of each row, about; nothing for a file that is not JSON.

    changed_ns  when it was written last: a changed file is read anew
    """
    del changed_ns
    try:
        return [
            _bytes(row.value) / BYTES_PER_TOKEN + TEMPLATE_TOKENS
            for row in islice(jsonrows.rows(file), MOST_ROWS)
        ]
    except (jsonrows.BrokenRow, OSError, UnicodeDecodeError):
        return []


def _bytes(value: Any) -> int:
    """Bytes of all text in a row: keys are not fed."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(_bytes(each) for each in value.values())
    if isinstance(value, list):
        return sum(_bytes(each) for each in value)
    return 0


def _share(file: Path, seen: list[float]) -> float:
    """How many times as many rows the file has as were looked at."""
    if len(seen) < MOST_ROWS:
        return 1.0
    looked = sum(each - TEMPLATE_TOKENS for each in seen) * BYTES_PER_TOKEN
    # Keys and quotes are about a fifth of a file of rows.
    return max(1.0, file.stat().st_size * 0.8 / max(looked, 1.0))


def _fed(lengths: list[float], times: float, setup: Setup) -> Data:
    """Rows as they are fed: packed full, or padded to the longest of their batch."""
    cut = [min(each, setup.seq_len) for each in lengths]
    rows = round(len(cut) * times)
    how = f"counted in bytes, {BYTES_PER_TOKEN} a token"
    if setup.packing:
        tokens = round(sum(cut) * times / PACKED)
        return Data(rows, tokens, setup.seq_len, setup.seq_len, how)
    order = random.Random(0).sample(cut, len(cut))  # noqa: S311 - an order, no secret
    size = setup.micro_batch
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    fed = fmean(max(batch) for batch in batches)
    return Data(rows, round(rows * fed), round(max(cut)), fed, how)
