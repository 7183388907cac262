"""The corpus of the benchmark: no sound recipe is refused, and the mistakes are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.preflight import caught, examine
from benchmarks.preflight_broken import Mistake, broken
from benchmarks.preflight_good import Case, good

UNSEEN = {"a model that is not there", "a foreign token"}
"""What nobody can see from here."""


def test_the_corpus_is_large_and_the_same_every_time() -> None:
    assert len(good()) >= 100
    assert len(broken()) >= 150
    assert broken() == broken()
    assert len({(m.case.text, m.where) for m in broken()}) > 300


@pytest.mark.parametrize("case", good()[::3], ids=lambda case: case.name)
def test_a_sound_recipe_has_no_problems(case: Case, tmp_path: Path) -> None:
    assert examine(case, tmp_path) == []


@pytest.mark.parametrize("mistake", broken()[::3], ids=lambda m: m.kind)
def test_a_mistake_is_told_of_on_its_line(mistake: Mistake, tmp_path: Path) -> None:
    told = caught(mistake, set(), tmp_path)
    assert (told is None) == (mistake.kind in UNSEEN)
    if told is not None and "not valid YAML" not in told.message:
        assert told.fix or "row" in told.where
