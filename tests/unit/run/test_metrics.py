"""axolotl's progress is read from lines it really printed (0.19.0, on a CPU)."""

from __future__ import annotations

import re

from launcher.metrics import PATTERNS, Reading

DICTIONARY = (
    "{'loss': '0.1331', 'grad_norm': '0.293', 'learning_rate': '0.0009419', 'ppl': '1.142', "
    "'memory/max_active (GiB)': '0', 'memory/max_allocated (GiB)': '0', "
    "'memory/device_reserved (GiB)': '0', 'tokens/train_per_sec_per_gpu': '48.4', "
    "'tokens/trainable': 10863, 'tokens/total': 35840, 'epoch': '0.5833'}"
)
BAR = " 58%|█████▊    | 35/60 [03:56<02:31,  6.07s/it]"


def found(line: str) -> dict[str, str]:
    figures: dict[str, str] = {}
    for pattern in PATTERNS:
        if match := re.search(pattern.regex, line):
            figures |= match.groupdict()
    return figures


def test_the_dictionary_line() -> None:
    assert found(DICTIONARY) == {
        "loss": "0.1331",
        "grad_norm": "0.293",
        "learning_rate": "0.0009419",
        "epoch": "0.5833",
        "tokens_per_second": "48.4",
        "tokens": "35840",
        "memory_gib": "0",
    }


def test_small_and_broken_numbers() -> None:
    assert found("{'loss': '1.692e-06', 'grad_norm': 'nan'}") == {
        "loss": "1.692e-06",
        "grad_norm": "nan",
    }


def test_the_bar_of_the_training_but_not_of_a_data_set() -> None:
    assert found(BAR) == {"step": "35", "steps": "60"}
    assert found("Tokenizing Prompts: 100%|██████████| 400/400 [00:01<00:00]") == {}


def test_an_evaluation_does_not_turn_the_bar_back() -> None:
    reading = Reading()
    reading.take({"step": 35, "steps": 60})
    reading.take({"step": 1, "steps": 3})
    assert (reading.step, reading.total) == (35, 60)
    reading.take({"loss": 0.1331, "tokens_per_second": 48.4})
    assert reading.figures() == "loss 0.133  48 tokens/s"
