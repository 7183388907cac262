"""What a config must not ask for on several nodes: results would be left on the others."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import Refused
from launcher.commands import Target
from launcher.several import require

TWO = Target("cuda", gpus=8, nodes=2)
WHOLE = {"state_dict_type": "FULL_STATE_DICT"}


@pytest.mark.parametrize(
    "config",
    [
        {"deepspeed": "zero3.json"},
        {"fsdp": ["full_shard"]},
        {"fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}},
        {"fsdp_config": {"fsdp_version": 2}},
    ],
)
def test_what_writes_parts_on_each_node_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="on 2 nodes leaves parts of each checkpoint") as caught:
        require(config, TWO)
    assert caught.value.hint
    require(config, Target("cuda", gpus=8))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"deepspeed": None, "fsdp": []},
        {"fsdp_config": WHOLE},
        {"fsdp": ["full_shard"], "fsdp_config": {"fsdp_state_dict_type": "FULL_STATE_DICT"}},
    ],
)
def test_what_the_first_process_writes_is_not(config: dict[str, Any]) -> None:
    require(config, TWO)
