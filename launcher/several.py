"""Training on several nodes: what a config must not ask for there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.errors import Refused
from launcher.commands import Target

_WHOLE = "FULL_STATE_DICT"


def require(config: Mapping[str, Any], target: Target) -> None:
    """Refuse what would leave parts of each checkpoint on the other nodes, whose disks are gone.

    DeepSpeed writes the states of its optimizer from every process, and FSDP its shards, each to
    the disk of its own node; only with a full state dict does the first process write all.
    """
    if target.nodes == 1:
        return
    if config.get("deepspeed"):
        raise Refused(
            f"deepspeed on {target.nodes} nodes leaves parts of each checkpoint on every node",
            hint="leave deepspeed out, or take one machine with more GPUs",
        )
    sharded = config.get("fsdp") or config.get("fsdp_config")
    if sharded and _state_dict(config) != _WHOLE:
        raise Refused(
            f"FSDP on {target.nodes} nodes leaves parts of each checkpoint on every node, unless "
            f"fsdp_config.state_dict_type is {_WHOLE}",
            hint=f"set it: --set fsdp_config.state_dict_type={_WHOLE}",
        )


def _state_dict(config: Mapping[str, Any]) -> str:
    """Under either of the names that axolotl takes."""
    found = config.get("fsdp_config")
    told = found if isinstance(found, Mapping) else {}
    return str(told.get("state_dict_type") or told.get("fsdp_state_dict_type") or "")
