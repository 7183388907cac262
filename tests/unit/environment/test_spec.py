"""Which environment a config needs."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import Refused
from launcher.environment import choose, required_extras
from launcher.environment.spec import OFFLINE, lock_path


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("config", "gpu", "extras"),
    [
        ({}, True, set()),
        ({"deepspeed": "deepspeed_configs/zero2.json"}, True, {"deepspeed"}),
        ({"deepspeed": None}, True, set()),
        ({"deepspeed": ""}, True, set()),
        ({"flash_attention": True}, True, {"flash-attn"}),
        ({"flash_attention": True}, False, set()),
        ({"flash_attention": "auto"}, True, set()),
        ({"flash_attention": False, "deepspeed": "z.json"}, True, {"deepspeed"}),
        ({"attn_implementation": "flash_attention_2"}, True, {"flash-attn"}),
        ({"attn_implementation": "sdpa"}, True, set()),
        ({"flash_attention": True, "deepspeed": "z"}, True, {"deepspeed", "flash-attn"}),
    ],
)
def test_required_extras(config: dict[str, Any], gpu: bool, extras: set[str]) -> None:
    assert required_extras(config, gpu=gpu) == extras


def test_the_flavour_follows_the_gpu_and_each_lock_is_there() -> None:
    cpu, cuda = choose({}, gpu=False), choose({}, gpu=True)
    assert (cpu.flavour, cuda.flavour) == ("cpu", "cu130")
    assert cpu.pins.versions["torch"] == "2.13.0+cpu"
    assert cuda.pins.versions["torch"] == "2.13.0"
    assert cpu.name != cuda.name
    assert cuda.room_bytes > cpu.room_bytes


def test_deepspeed_takes_the_lock_that_holds_it() -> None:
    spec = choose({"deepspeed": "zero3.json"}, gpu=True)
    assert spec.lock == lock_path("cu130", {"deepspeed"})
    assert "deepspeed" in spec.pins.versions
    assert "deepspeed" not in choose({}, gpu=True).pins.versions


def test_deepspeed_without_a_gpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(Refused, match="deepspeed needs a GPU") as caught:
        choose({"deepspeed": "zero3.json"}, gpu=False)
    assert "--set deepspeed=null" in caught.value.hint


def test_flash_attention_is_said_to_come_from_the_hub() -> None:
    spec = choose({"flash_attention": True}, gpu=True)
    assert "Hugging Face hub" in " ".join(spec.notes)
    assert choose({"flash_attention": True}, gpu=False).notes == ()


@pytest.mark.parametrize("name", OFFLINE)
def test_flash_attention_is_refused_where_the_hub_may_not_be_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(Refused, match="flash attention comes from the Hugging Face hub"):
        choose({"flash_attention": True}, gpu=True)


def test_an_unreadable_lock_is_refused(tmp_path: Any) -> None:
    from shelf import spec

    lock = tmp_path / "lock.txt"
    lock.write_text("axolotl>=0.19\n")
    with pytest.raises(Refused, match="not a pinned requirement: 'axolotl"):
        _ = spec(lock, python="3.11").pins
