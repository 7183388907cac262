"""The three examples at every loopback provider, by commands alone, with real axolotl."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import Desk
from rented_story import managed_python

pytestmark = [pytest.mark.axolotl, pytest.mark.seldom, pytest.mark.timeout(3600)]

ASKED = {
    "lora-1b": "Add 12 and 30.",
    "memorize-sql": "[INST] Answer with one SQL query for this table.\n"
    "CREATE TABLE trails (name, km, region)\nHow many trails are there? [/INST]",
    "honeycomb": "NLQ: \"p95 retries by host\"\n\nColumns: ['host', 'retries']",
}


@contextlib.contextmanager
def modal(folder: Path) -> Iterator[dict[str, str]]:
    from clouds.modal.cloud import Cloud

    path = f"{managed_python().parent}:/usr/local/bin:/usr/bin:/bin"
    with Cloud(folder, image_env={"PATH": path}) as cloud:
        yield cloud.environ
        assert not cloud.billing()


@contextlib.contextmanager
def jarvis(folder: Path) -> Iterator[dict[str, str]]:
    from jarvis_axolotl import cloud_with_axolotl, variables

    with cloud_with_axolotl(folder, managed_python()) as cloud:
        yield variables(cloud)
        assert not [m for m in cloud.machines if m.gone is None and m.status != "Paused"]


@contextlib.contextmanager
def skypilot(folder: Path) -> Iterator[dict[str, str]]:
    from clouds.skypilot.rig import Sky

    with Sky(folder, software=managed_python().parent) as sky:
        yield sky.environ


Opened = Callable[[Path], contextlib.AbstractContextManager[dict[str, str]]]


@pytest.mark.parametrize(
    "cloud",
    [modal, jarvis, pytest.param(skypilot, marks=pytest.mark.slurm)],
    ids=lambda cloud: cloud.__name__,
)
def test_each_example_is_trained_merged_and_asked_there(cloud: Opened, tmp_path: Path) -> None:
    provider = getattr(cloud, "__name__", "")
    (tmp_path / "here").mkdir()
    with cloud(tmp_path / "cloud") as variables:
        desk = Desk(tmp_path / "here", tmp_path / "state", variables)
        try:
            for example, question in ASKED.items():
                _told(desk, provider, example, question)
        finally:
            for example in ASKED:
                desk.run("stop", "--now", example, timeout=300)


def _told(desk: Any, provider: str, example: str, question: str) -> None:
    train = ("train", example, "--profile", "cpu", "-b", provider, "-n", example, "-y")
    trained = desk.run(*train, "--on-finish", "pause", timeout=1800)
    assert trained.code == 0, trained.said[-6000:]
    output = desk.here / "runs" / example / "output"
    assert (output / "adapter_model.safetensors").exists()
    assert (output / "merged" / "model.safetensors").exists()
    asked = desk.run("inference", example, "-p", question, timeout=900)
    assert asked.code == 0, asked.said[-6000:]
    if example == "memorize-sql":
        assert "[SQL] SELECT" in asked.out
        assert "[/SQL]" in asked.out
