"""What optimizers keep, by the names they go by."""

from __future__ import annotations

import pytest

from launcher.estimate import optimizers


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("adamw_torch", 8.0),
        ("adamw_torch_fused", 8.0),
        ("adamw_bnb_8bit", 2.03125),
        ("ADAMW-8bit", 2.03125),
        ("paged_adamw_32bit", 8.0),
        ("lion_8bit", 1.015625),
        ("lion_pytorch", 4.0),
        ("adafactor", 0.04),
        ("sgd", 0.0),
        ("galore_adamw_layerwise", 2.0),
        ("somebodys_fused_adam", 8.0),
        ("decoupled_lionw", 4.0),
        ("what is this", 8.0),
    ],
)
def test_bytes_of_an_fp32_parameter(name: str, kept: float) -> None:
    assert optimizers.find(name).state_bytes(4.0) == pytest.approx(kept, rel=1e-6)


def test_only_the_foreach_form_copies_while_it_steps() -> None:
    assert optimizers.find("adamw_torch").step_bytes(2.0) == 2.0
    assert optimizers.find("adamw_torch_fused").step_bytes(2.0) == 0.0


def test_a_guess_is_told_from_a_name() -> None:
    assert optimizers.known("AdamW_Torch")
    assert not optimizers.known("what is this")
