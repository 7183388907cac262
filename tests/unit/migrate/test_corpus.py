"""Every recipe of the preflight corpus, as it is, and as it would have been written in 2024."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from benchmarks.preflight_good import Case, aged, good
from launcher import preflight, recipe
from launcher.migrate import Migration

Migrated = Callable[[str], Migration]


@pytest.mark.parametrize("case", good()[::2], ids=lambda case: case.name)
def test_a_recipe_of_today_stays_to_the_letter(case: Case, desk: Path, migrated: Migrated) -> None:
    for name, text in case.files.items():
        (desk / name).write_text(text)
    found = migrated(case.text)
    assert not found.needed
    assert found.after == case.text


@pytest.mark.parametrize("case", good()[::2], ids=lambda case: case.name)
def test_an_aged_recipe_comes_back_without_losing_a_line(
    case: Case, desk: Path, migrated: Migrated
) -> None:
    for name, text in case.files.items():
        (desk / name).write_text(text)
    old = aged(case)
    found = migrated(old)
    assert found.done
    assert not found.by_hand
    touched = {int(done.where.split(":")[1]) for done in found.done}
    kept = [
        line
        for number, line in enumerate(old.splitlines(), 1)
        if number not in touched and "conversation:" not in line
    ]
    after = found.after.splitlines()
    assert [line for line in after if line in kept] == [line for line in kept if line in after]
    assert set(kept) <= set(after)
    meant = yaml.safe_load(found.after)
    assert meant["base_model"] == yaml.safe_load(case.text)["base_model"]
    (desk / "new.yml").write_text(found.after)
    said = preflight.examine(recipe.load("new.yml", cwd=desk))
    assert not [p for p in said if "refuses" in p.message or "no longer" in p.message]
