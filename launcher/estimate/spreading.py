"""How an axolotl config spreads a model over GPUs: FSDP, DeepSpeed, and what they offload."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import BadInput
from launcher.estimate.keys import Config, on, section, whole, words


def fsdp_version(config: Config) -> int:
    """1 or 2."""
    below = section(config, "fsdp_config")
    version = config.get("fsdp_version", below.get("fsdp_version", below.get("version", 1)))
    return 2 if str(version) == "2" else 1


def spread(config: Config, base_dir: Path | None) -> tuple[str, str]:
    """The setup's `parallelism` and `offload`; raises BadInput."""
    if config.get("deepspeed"):
        return _deepspeed(config["deepspeed"], base_dir)
    below = section(config, "fsdp_config")
    asked = " ".join(words(config, "fsdp")).lower()
    if not asked and not below:
        return ("fsdp" if whole(config, "dp_shard_size", 1) > 1 else "none"), "none"
    plain = {str(key).removeprefix("fsdp_"): value for key, value in below.items()}
    offload = "params" if "offload" in asked or on(plain, "offload_params") else "none"
    strategy = f"{asked} {plain.get('sharding_strategy', '')}".lower()
    if "no_shard" in strategy:
        return "ddp", "none"
    if "shard_grad_op" in strategy or plain.get("reshard_after_forward") is False:
        return "fsdp_grad_op", offload
    return "fsdp", offload


def _deepspeed(value: object, base_dir: Path | None) -> tuple[str, str]:
    """The stage and what is offloaded, by the file; by its name where it is not here."""
    if isinstance(value, Mapping):
        return _stage(value)
    if not isinstance(value, str):
        raise BadInput(f"deepspeed is {value!r}", hint="it is the path of a JSON file")
    path = (base_dir or Path()) / value
    if _is_file(path):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{value} cannot be read as JSON: {error}", hint="mend it, or leave the key out"
            ) from error
        if isinstance(document, Mapping):
            return _stage(document)
    name = value.lower()
    found = re.search(r"(?:zero|stage|z)[-_]?([123])", name)
    stage = f"zero{found.group(1)}" if found else "zero2"
    if "offload" not in name:
        return stage, "none"
    return stage, "params" if "all" in name or "param" in name else "optimizer"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # what cannot be a path at all
        return False


def _stage(document: Mapping[str, Any]) -> tuple[str, str]:
    zero = section(document, "zero_optimization")
    stage = str(zero.get("stage", 0))
    if stage not in ("1", "2", "3"):
        return "ddp", "none"

    def away(key: str) -> bool:
        return str(section(zero, key).get("device", "none")).lower() in ("cpu", "nvme")

    if away("offload_param"):
        return f"zero{stage}", "params"
    return f"zero{stage}", "optimizer" if away("offload_optimizer") else "none"
