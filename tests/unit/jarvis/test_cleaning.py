"""What is cleaned up at the account, and what is not, while other processes work."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from backends.errors import MayStillBill
from backends.jarvis import checking, keys
from backends.jarvis.api import Account
from backends.jarvis.machines import Machines
from backends.jarvis.records import Box, Held, JobNote, Records, Stage

WHEN = "2026-01-01T00:00:00+00:00"


@dataclass
class Provider:
    """An account with one key of ours, whose machines are destroyed at a word."""

    keys_there: dict[str, tuple[str, str]] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    stubborn: bool = False

    def keys(self) -> dict[str, tuple[str, str]]:
        return dict(self.keys_there)

    def add_key(self, public: str, name: str) -> None:
        self.keys_there[name] = (public, name)

    def remove_key(self, key: str) -> None:
        del self.keys_there[key]

    def destroy(self, box: Box) -> Box:
        if self.stubborn:
            raise MayStillBill("it does not end", hint="end it yourself")
        self.destroyed.append(box.name)
        return replace(box, held=Held.GONE)

    def look_well(self, box: Box) -> Any:
        return box if box.name in self.there else None


def box(key: str, *, held: Held = Held.RUNNING, **notes: JobNote) -> Box:
    return Box(key, f"ftl-{key}", "container", "r", "pytorch", 100, WHEN, held=held, jobs=notes)


def note(stage: Stage, *, kept: bool = False, request: str = "x") -> JobNote:
    return JobNote("lease", WHEN, request=request, stage=stage, kept=kept)


def clean(provider: Provider, records: Records) -> list[Any]:
    return checking.clean(cast("Account", provider), records, cast("Machines", provider))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


@pytest.fixture
def provider(records: Records, tmp_path: Path) -> Provider:
    made = Provider()
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    keys.ready(cast("Account", made), records.root / "key", tmp_path / "home")
    return made


def test_only_what_no_job_needs_is_ended(provider: Provider, records: Records) -> None:
    records.save(box("open", a=note(Stage.STARTED)))
    records.save(box("laying", b=note(Stage.LAYING)))
    records.save(box("kept", held=Held.PAUSED, c=note(Stage.RELEASED, kept=True)))
    records.save(box("over", d=note(Stage.RELEASED)))
    found = clean(provider, records)
    assert provider.destroyed == ["ftl-over"]
    assert [finding.ok for finding in found] == [True]
    assert {one.key for one in records.all()} == {"open", "laying", "kept"}
    assert provider.keys_there, "the others need the key"


def test_a_machine_that_somebody_works_on_is_passed_over(
    provider: Provider, records: Records
) -> None:
    records.save(box("over", d=note(Stage.RELEASED)))
    with records.claim("over"):
        assert clean(provider, records) == []
    assert provider.destroyed == []


def test_one_that_does_not_end_may_bill_and_hides_no_other(
    provider: Provider, records: Records
) -> None:
    records.save(box("one", d=note(Stage.RELEASED)))
    records.save(box("two", d=note(Stage.RELEASED)))
    provider.stubborn = True
    found = clean(provider, records)
    assert [(finding.ok, finding.bills) for finding in found] == [(False, True)] * 2


def test_a_machine_of_another_computer_that_is_gone_is_forgotten(
    provider: Provider, records: Records
) -> None:
    records.save(box("there", a=note(Stage.STARTED, request="")))
    records.save(box("gone", b=note(Stage.STARTED, request="")))
    records.save(box("mine", c=note(Stage.STARTED)))
    provider.there.add("ftl-there")
    assert clean(provider, records) == []
    assert {one.key for one in records.all()} == {"there", "mine"}


def test_the_key_goes_when_nothing_needs_it(provider: Provider, records: Records) -> None:
    (found,) = clean(provider, records)
    assert (found.subject, found.ok) == ("SSH key", True)
    assert provider.keys_there == {}
    assert clean(provider, records) == []


def test_the_key_stays_for_a_machine_that_is_about_to_be_made(
    provider: Provider, records: Records, tmp_path: Path
) -> None:
    """A launch has its key, and has not yet noted its machine, when the cleaning begins."""
    has_key, cleaning = threading.Event(), threading.Event()

    def launch() -> None:
        with records.claim(keys.CLAIM):
            keys.ready(cast("Account", provider), records.root / "key", tmp_path / "home")
            has_key.set()
            cleaning.wait(10)
            records.save(box("new", held=Held.CREATING, a=note(Stage.LAYING)))

    launching = threading.Thread(target=launch)
    launching.start()
    assert has_key.wait(10)
    done: list[Any] = []
    cleaner = threading.Thread(target=lambda: done.append(clean(provider, records)))
    cleaner.start()
    cleaner.join(0.3)
    assert cleaner.is_alive(), "it did not wait"
    cleaning.set()
    launching.join(10)
    cleaner.join(10)
    assert done == [[]]
    assert provider.keys_there
    assert (records.root / "key" / "id_ed25519").exists()
