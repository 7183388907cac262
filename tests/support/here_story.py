"""`tiny` trained, merged and asked once on this machine: what rented machines are compared with.

It is made once for all the processes of a test run, by the first that needs it.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from desks import Desk
from filelock import FileLock
from proc_spy import Spy

HERE = "here-itself"
"""The run's name, which no other run of the tests has."""


@dataclass(frozen=True)
class Here:
    """Where it lies, and what was started for it."""

    desk: Desk
    spy: Spy


def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all the processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "here"


def here(folder: Path) -> Here:
    """What was made in this folder; made now if nobody has."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = folder / "seen.pickle"
    desk = Desk(folder / "desk", folder / "state", {})
    spy = Spy("axolotl.cli.", HERE)
    with FileLock(folder / "lock"):
        if not seen.exists():
            desk.here.mkdir()
            with spy:
                trained = desk.run("train", "tiny", "-n", HERE, "-g", "cpu", "-y")
                assert trained.code == 0, trained.said
                asked = desk.run("inference", HERE, "-p", "one")
                assert asked.code == 0, asked.said
            seen.write_bytes(pickle.dumps(spy.seen))
        spy.seen.update(pickle.loads(seen.read_bytes()))
    return Here(desk, spy)
