"""The config that the job really gets: the user's, with the few keys a launcher must set.

The user's file is never changed. Every key set here is returned as a `Change` and printed, so that
nothing is done behind anybody's back.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from launcher.changes import Change

_ON_CPU: tuple[tuple[str, Any, str], ...] = (
    ("lora_mlp_kernel", False, "axolotl turns this Triton kernel on by itself, and it needs a GPU"),
    ("lora_qkv_kernel", False, "axolotl turns this Triton kernel on by itself, and it needs a GPU"),
    ("lora_o_kernel", False, "axolotl turns this Triton kernel on by itself, and it needs a GPU"),
    ("flash_attention", False, "flash attention needs a GPU"),
    ("bf16", False, "most CPUs have no fast bf16; fp32 is both exact and quicker there"),
    ("fp16", False, "fp16 training needs a GPU"),
    ("tf32", False, "tf32 is a GPU number format"),
    ("load_in_8bit", False, "8-bit base models need a GPU"),
    ("load_in_4bit", False, "4-bit base models need a GPU"),
)

_CPU_OPTIMIZER = "adamw_torch"

_GPU_OPTIMIZER = re.compile(r"8bit|4bit|fp8|paged|apex")
"""Optimizers with quantised or paged states, which bitsandbytes and torchao have for GPUs."""


def derive(
    config: Mapping[str, Any], *, workdir: PurePosixPath, cpu: bool
) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The config for a job whose working directory is `workdir`, relative to the run directory.

    cpu  the job runs without a GPU
    """
    derived = copy.deepcopy(dict(config))
    changes: list[Change] = []

    def put(key: str, value: Any, why: str) -> None:
        before = derived.get(key)
        if before != value or key not in derived:
            derived[key] = value
            changes.append(Change(key=key, before=before, after=value, why=why))

    up = "/".join([".."] * len(workdir.parts))
    put("output_dir", f"{up}/output", "results always lie in the run directory's output/")
    prepared = derived.get("dataset_prepared_path")
    if prepared is None or str(prepared).startswith(("/", "~", "..")):
        put("dataset_prepared_path", "last_run_prepared", "prepared data stay with the run")
    put(
        "dynamic_checkpoint",
        {"enabled": True, "check_interval": 1},
        "so that `ftlaunch stop` can ask for a checkpoint first",
    )
    if derived.get("save_only_model"):
        put("save_only_model", False, "a checkpoint without its optimizer cannot be gone on from")
    if cpu:
        for key, value, why in _ON_CPU:
            if (
                value is False
                and key.startswith(("fp16", "tf32", "load_in"))
                and not derived.get(key)
            ):
                continue  # off unless asked for
            put(key, value, why)
        optimizer = str(derived.get("optimizer", _CPU_OPTIMIZER))
        if _GPU_OPTIMIZER.search(optimizer):
            put("optimizer", _CPU_OPTIMIZER, f"{optimizer} needs a GPU")
        if derived.get("adapter") == "qlora":
            put("adapter", "lora", "QLoRA needs 4-bit kernels, which need a GPU")
    return derived, tuple(changes)


def to_yaml(config: Mapping[str, Any]) -> str:
    """The derived config as text, in the order of its keys, as PyYAML reads it back."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
