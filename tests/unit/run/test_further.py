"""What a further job starts from: the last training that left something, not the last begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_run import job, toy

from backends import Files, Lost, Phase
from launcher.run import further, inventory, spec
from launcher.run.loaded import Backends
from launcher.store import Store


def training(store: Store, phase: Phase, files: Files | None) -> int:
    count = len(store.jobs("toy1"))
    text = spec.job_to_json(job("train", seconds=1))
    made = store.add_job(run_id="toy1", kind="train", name=f"t{count}", spec=text, offer="{}")
    store.mark_launched(made.id)
    store.mark_ended(made.id, phase, exit_code=None, reason="", cost=None)
    store.mark_closed(made.id, files)
    return made.id


def test_a_training_that_left_nothing_does_not_hide_the_one_before(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        backends = Backends(made.state / "backends")
        good = training(made.store, Phase.SUCCEEDED, Files("local", "a.00000000"))
        training(made.store, Phase.FAILED, None)
        training(made.store, Phase.STOPPED, Files("local", "gone.00000000"))
        assert further.trained(made.store, made.run, backends).id == good


def test_no_model_at_all_is_said(tmp_path: Path) -> None:
    with toy(tmp_path) as made:
        backends = Backends(made.state / "backends")
        training(made.store, Phase.FAILED, Files("local", "gone.00000000"))
        with pytest.raises(Lost, match="left a model"):
            further.trained(made.store, made.run, backends)


def test_the_newest_complete_checkpoint_is_the_highest_number() -> None:
    rows = [
        {"path": "output/checkpoint-4", "complete": True},
        {"path": "output/checkpoint-12", "complete": True},
        {"path": "output/checkpoint-16", "complete": False},
    ]
    state = json.loads(json.dumps({"checkpoints": rows}))
    assert inventory.newest_checkpoint(state) == "output/checkpoint-12"
