"""The command that begins a run anew names what it was begun with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_run import toy

from backends.offer import Need
from launcher.run import spec
from launcher.run.again import train_again


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (Need(gpus=(("H100", 2), ("L4", 1))), "-b local -g H100:2,L4"),
        (Need(cpu_only=True), "-b local -g cpu"),
        (Need(), "-b local"),
    ],
)
def test_the_hardware_is_asked_for_again(tmp_path: Path, need: Need, words: str) -> None:
    with toy(tmp_path, seconds=0.1) as made:
        settled = spec.run_from_json(made.store.run_spec(made.run.id))
        record = made.store.add_run(
            run_id="1",
            name="other",
            recipe="my recipe.yml",
            backend="local",
            output_dir=tmp_path / "out",
            spec=spec.run_to_json(replace(settled, need=need)),
        )
        assert train_again(made.store, record) == f"ftlaunch train 'my recipe.yml' {words}"
        elsewhere = train_again(made.store, record, backend="modal")
        assert elsewhere == "ftlaunch train 'my recipe.yml' -b modal"
