"""What the command line's own types take, and the sentence for what they do not."""

from __future__ import annotations

import click
import pytest

from launcher.cli import options


@pytest.mark.parametrize("text", ["0", "0m", "soon", "-1h"])
def test_a_bad_time_is_repeated(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{text}'"):
        options.Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "-3", "ten", "nan"])
def test_a_bad_amount_is_repeated(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{text}'"):
        options.Dollars().convert(text, None, None)


@pytest.mark.parametrize("text", ["2", "cpu:2", "H100,2", "H100:0", ""])
def test_what_is_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        options.Gpu().convert(text, None, None)
    assert caught.value.exit_code == 2


def test_gpus_are_kinds_with_counts() -> None:
    assert options.Gpu().convert("H100,A100-80GB:2", None, None) == (("H100", 1), ("A100-80GB", 2))
    assert options.Gpu().convert("4090", None, None) == (("4090", 1),)
    assert options.Gpu().convert("cpu", None, None) == (("cpu", 1),)
