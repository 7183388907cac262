"""What the machine cannot do, or would lose; and what the rows come to there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import Refused
from launcher import gpus, preflight, recipe
from launcher.commands import Target
from launcher.preflight import Problem

GOOD = "base_model: o/m\ndatasets:\n- path: o/s\n  type: alpaca\nlearning_rate: 0.0002\n"
LORA = "adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\n"
On = Callable[..., list[Problem]]


@pytest.fixture
def on(folder: Path) -> On:
    """What is found in a recipe with this text, on this machine."""

    def look_at(text: str, *wanted: tuple[str, int], spot: bool = False) -> list[Problem]:
        (folder / "r.yml").write_text(text)
        found, look = preflight.examined(recipe.load("r.yml", cwd=folder))
        assert not [p for p in found if p.severity == "error"]
        return preflight.on_targets(look, wanted, spot=spot)

    return look_at


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("T4", (7, 5)), ("Tesla T4", (7, 5)), ("V100-32GB", (7, 0)), ("A100", (8, 0)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)), ("a100-80gb", (8, 0)), ("A10G", (8, 6)), ("L4", (8, 9)),
        ("NVIDIA GeForce RTX 4090", (8, 9)), ("RTX4090", (8, 9)), ("RTX A6000", (8, 6)),
        ("RTX 6000 Ada", (8, 9)), ("NVIDIA H100 80GB HBM3", (9, 0)), ("H100-PCIe", (9, 0)),
        ("H100!", (9, 0)), ("RTX PRO 6000 Blackwell", (12, 0)), ("B300 SXM", (10, 3)),
        ("MI300X", None), ("", None), ("ALVEO", None),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_any_of_its_names(name: str, has: tuple[int, int] | None) -> None:
    assert gpus.capability(name) == has


@pytest.mark.parametrize(
    ("line", "lacks", "has"),
    [
        ("bf16: true", "T4", "L4"),
        ("bfloat16: true", "T4", "A100"),
        ("tf32: true", "T4", "A10G"),
        ("flash_attention: true", "T4", "A10"),
        ("attn_implementation: flash_attention_2", "T4", "A100"),
        ("attn_implementation: flash_attention_3", "A100", "H100"),
        ("attn_implementation: flash_attention_3", "B200", "H200"),
        ("fp8: true", "A100", "H100"),
        ("fp8: true", "L40S", "B200"),
        ("optimizer: ao_adamw_fp8", "A100", "L4"),
    ],
)
def test_what_a_generation_of_gpus_lacks(on: On, line: str, lacks: str, has: str) -> None:
    text = f"{GOOD}{line}\n"
    (problem,) = on(text, (lacks, 1))
    assert (problem.severity, problem.where) == ("error", "r.yml:6")
    assert f"{lacks} (compute capability" in problem.message
    assert problem.fix
    assert on(text, (has, 1)) == []
    assert on(text, ("cpu", 1)) == on(text) == []
    assert on(text, (has, 1), (lacks, 1)) == [problem]


def test_a_gpu_that_nobody_knows_is_told_of(on: On) -> None:
    (problem,) = on(GOOD, ("A10O", 1))
    assert problem.severity == "warning"
    assert "A10O" in problem.message
    assert "A100" in str(problem.fix)
    assert on(GOOD, ("MI300X", 1), ("H100!", 1), ("rtx 6000 ada", 1)) == []


def test_what_is_left_to_axolotl_is_not_refused(on: On) -> None:
    assert on(GOOD + "bf16: auto\ntf32: auto\nsdp_attention: true\n", ("T4", 1)) == []


def test_a_gpu_that_the_environment_dropped(on: On, folder: Path) -> None:
    (problem,) = on(GOOD, ("V100", 1))
    assert "CUDA 13" in problem.message
    inside = "".join(f"  {line}\n" for line in GOOD.splitlines())
    image = f"image: axolotl/axolotl@sha256:{'a' * 64}\n"
    assert on(f"config:\n{inside}{image}", ("V100", 1)) == []


def test_packed_rows_with_sdpa_in_bf16_before_hopper(on: On) -> None:
    text = GOOD + "sample_packing: true\nsdp_attention: true\nbf16: true\n"
    (problem,) = on(text, ("A100", 1))
    assert (problem.severity, problem.where) == ("warning", "r.yml:6")
    assert on(text, ("H100", 1)) == []


def test_a_recipes_own_hardware_is_looked_at(on: On) -> None:
    inside = "".join(f"  {line}\n" for line in (GOOD + "bf16: true\n").splitlines())
    (problem,) = on(f"hardware: {{gpu: T4}}\nconfig:\n{inside}")
    assert problem.where == "r.yml:8"


@pytest.mark.parametrize("asked", ["hardware: {gpu: L4, spot: true}", "hardware: {recover: true}"])
def test_a_run_that_may_be_cut_short_needs_checkpoints(on: On, asked: str) -> None:
    text = GOOD + 'save_strategy: "no"\n'
    assert on(text) == []
    (problem,) = on(text, spot=True)
    assert (problem.severity, problem.where) == ("error", "r.yml:6")
    assert "--spot" in problem.message
    inside = "".join(f"  {line}\n" for line in text.splitlines())
    assert [p.where for p in on(f"{asked}\nconfig:\n{inside}")] == ["r.yml:8"]
    assert on(GOOD + "save_strategy: epoch\n", spot=True) == []


def rows(folder: Path, count: int, words: int = 2) -> str:
    row = json.dumps({"instruction": "do " * words, "output": "it"})
    (folder / "d.jsonl").write_text(f"{row}\n" * count)
    return GOOD.replace("o/s", "d.jsonl") + LORA


def test_more_gpus_than_the_rows_can_feed(on: On, folder: Path) -> None:
    text = rows(folder, 20) + "micro_batch_size: 4\n"
    assert on(text, ("A100", 4)) == []
    (problem,) = on(text, ("A100", 8))
    assert (problem.severity, problem.where) == ("error", "r.yml:10")
    assert "takes 32 rows, and there are 20" in problem.message
    (kept,) = on(text + "val_set_size: 0.5\n", ("A100", 4))
    assert "there are 10" in kept.message
    assert on(rows(folder, 20).replace("d.jsonl", "o/s"), ("A100", 8)) == []
    (all_kept,) = on(text + "val_set_size: 20\n")
    assert all_kept.where == "r.yml:11"


def test_all_weights_on_several_gpus_are_said_to_be_whole_on_each(on: On, folder: Path) -> None:
    (problem,) = on(GOOD, ("A100", 2))
    assert (problem.severity, problem.where) == ("warning", "r.yml:1")
    assert on(GOOD, ("A100", 1)) == []


def test_a_bound_on_the_rows_that_are_too_long(folder: Path) -> None:
    (folder / "r.yml").write_text(rows(folder, 5, words=400) + "sequence_len: 100\n")
    found, look = preflight.examined(recipe.load("r.yml", cwd=folder))
    (problem,) = found
    assert (problem.severity, problem.where) == ("warning", "r.yml:10")
    assert "5 of the 5 rows" in problem.message
    assert "drops them" in problem.message
    assert preflight.lengths(look) == [
        f"datasets[0]: 5 rows, of which at most 5 are longer than sequence_len {most} {why}"
        for most, why in [(100, "(a token is a byte at least)")]
    ]
    (folder / "r.yml").write_text(rows(folder, 5) + "sequence_len: 400\n")
    found, look = preflight.examined(recipe.load("r.yml", cwd=folder))
    assert found == []
    assert "at most 0 are longer" in preflight.lengths(look)[0]


def test_a_launch_is_refused_for_what_the_machine_lacks(folder: Path) -> None:
    (folder / "r.yml").write_text(GOOD + "bf16: true\ndebug: true\n")
    passed = preflight.passed(recipe.load("r.yml", cwd=folder))
    assert len(passed.on("A100", Target("cuda", 1), spot=True, recover=False)) == 1
    assert len(passed.on("T4", Target("cpu"), spot=False, recover=False)) == 1
    with pytest.raises(Refused, match="T4"):
        passed.on("T4", Target("cuda", 1), spot=False, recover=False)


@pytest.mark.parametrize(
    ("turns", "template", "severity"),
    [
        ("uaua", "chatml", None), ("suau", "chatml", None), ("uuaa", "chatml", "warning"),
        ("aua", "chatml", "warning"), ("uua", "mistral_v1", "error"), ("au", "gemma", "error"),
        ("uatua", "mistral_v1", None),
    ],
)  # fmt: skip
def test_turns_that_do_not_alternate(
    folder: Path, turns: str, template: str, severity: str | None
) -> None:
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    messages = [{"role": names[turn], "content": "x"} for turn in turns]
    (folder / "d.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    text = GOOD.replace("o/s", "d.jsonl").replace("alpaca", "chat_template")
    (folder / "r.yml").write_text(f"{text}chat_template: {template}\n")
    found = preflight.examine(recipe.load("r.yml", cwd=folder))
    assert [p.severity for p in found] == ([severity] if severity else [])
    assert all(p.where == "d.jsonl row 1" for p in found)


def test_rows_in_which_nothing_is_said(folder: Path) -> None:
    (folder / "d.jsonl").write_text('{"instruction": "a", "output": " "}\n' * 3)
    (folder / "r.yml").write_text(GOOD.replace("o/s", "d.jsonl"))
    (problem,) = preflight.examine(recipe.load("r.yml", cwd=folder))
    assert (problem.severity, problem.where) == ("warning", "d.jsonl row 1")
    assert "nothing is learnt" in problem.message
