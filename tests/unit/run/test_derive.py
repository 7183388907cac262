"""The derived config: few keys, each with its reason, and the user's values left alone."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
import yaml

from launcher.derive import derive, to_yaml

WORK = PurePosixPath("bundle")


def test_results_lie_in_one_place_wherever_the_working_directory_is() -> None:
    config = {"output_dir": "./out", "base_model": "x"}
    assert derive(config, workdir=WORK, cpu=False)[0]["output_dir"] == "../output"
    deep = PurePosixPath("bundle/a/b")
    assert derive(config, workdir=deep, cpu=False)[0]["output_dir"] == "../../../output"
    assert config == {"output_dir": "./out", "base_model": "x"}


def test_on_a_gpu_the_gpu_s_keys_stay() -> None:
    config = {"load_in_4bit": True, "bf16": "auto", "flash_attention": True, "adapter": "qlora"}
    derived, _ = derive(config, workdir=WORK, cpu=False)
    assert {key: derived[key] for key in config} == config


def test_on_a_cpu_what_needs_a_gpu_is_turned_off_and_said() -> None:
    config = {"load_in_4bit": True, "adapter": "qlora", "optimizer": "adamw_bnb_8bit"}
    derived, changes = derive(config, workdir=WORK, cpu=True)
    assert derived["load_in_4bit"] is False
    assert derived["adapter"] == "lora"
    assert derived["optimizer"] == "adamw_torch"
    assert {"load_in_4bit", "adapter", "optimizer"} <= {change.key for change in changes}
    assert all(change.why for change in changes)
    assert "load_in_8bit" not in derived


@pytest.mark.parametrize(
    "optimizer", ["adamw_torch", "adamw_torch_fused", "lion_pytorch", "nonsense"]
)
def test_an_optimizer_that_may_run_here_is_left_to_axolotl(optimizer: str) -> None:
    assert derive({"optimizer": optimizer}, workdir=WORK, cpu=True)[0]["optimizer"] == optimizer


def test_a_checkpoint_can_always_be_gone_on_from() -> None:
    derived, changes = derive({"save_only_model": True}, workdir=WORK, cpu=False)
    assert derived["save_only_model"] is False
    assert "save_only_model" in {change.key for change in changes}
    assert "save_only_model" not in derive({}, workdir=WORK, cpu=False)[0]


def test_what_is_written_is_read_back_the_same() -> None:
    config = {"learning_rate": "2e-4", "yes": "yes", "octal": "010", "text": "línea\nnew: 'x'"}
    assert yaml.safe_load(to_yaml(config)) == config
