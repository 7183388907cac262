"""Which story of a rented machine is told in a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import turns

FILES = {f"test_{name}_axolotl.py" for name in turns.STORIES}


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    turns.turn.cache_clear()
    yield
    turns.turn.cache_clear()


@pytest.mark.parametrize("name", turns.STORIES)
def test_the_one_whose_turn_it_is_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAUNCH_TURN", name)
    assert turns.off(FILES | {"test_local_axolotl.py"}) == FILES - {f"test_{name}_axolotl.py"}


def test_one_that_is_asked_for_by_name_is_told() -> None:
    for file in FILES:
        assert turns.off({file}) == set()


def test_the_commit_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTLAUNCH_TURN", raising=False)
    told = set()
    for number in range(3):
        monkeypatch.setattr(turns, "_commit", lambda number=number: f"{number:040x}")
        turns.turn.cache_clear()
        told.add(turns.turn())
    assert told == set(turns.STORIES)


def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAUNCH_TURN", "azure")
    with pytest.raises(ValueError, match="jarvis, modal, skypilot"):
        turns.turn()
