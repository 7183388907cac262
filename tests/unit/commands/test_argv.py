"""Each command, word by word: what a job runs is what a user of axolotl would type."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from backends.errors import Unsupported
from backends.plan import NodeFact, RunPath
from launcher import commands
from launcher.commands import Decoding, Target
from launcher.plan_text import command_text

ADAPTER = RunPath("inputs/train/output")
CPU = Target("cpu")
GPU = Target("cuda", gpus=1)

FIXED = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
ON_CPU = ("accelerate", "launch", "--cpu", "--num_processes", "1", *FIXED, "-m")
ON_GPU = ("accelerate", "launch", "--num_processes", "1", *FIXED, "-m")


def flag(name: str, path: str = "inputs/train/output") -> RunPath:
    return RunPath(path, prefix=f"--{name}=")


def test_preprocess() -> None:
    assert commands.preprocess() == ("python", "-m", "axolotl.cli.preprocess", "ftlaunch.yml")


@pytest.mark.parametrize(
    ("target", "launcher"),
    [
        (CPU, ON_CPU),
        (GPU, ON_GPU),
        (
            Target("cuda", gpus=4),
            ("accelerate", "launch", "--multi_gpu", "--num_processes", "4", *FIXED, "-m"),
        ),
    ],
)
def test_train_is_told_every_value_accelerate_would_guess(
    target: Target, launcher: tuple[str, ...]
) -> None:
    assert commands.train(target=target) == (*launcher, "axolotl.cli.train", "ftlaunch.yml")


def test_train_puts_the_users_launcher_arguments_last_where_they_win() -> None:
    argv = commands.train("a b.yml", target=CPU, extra=("--main_process_port", "0"))
    assert argv == (*ON_CPU[:-1], "--main_process_port", "0", "-m", "axolotl.cli.train", "a b.yml")


def test_merge_reads_the_adapter_where_it_lies_and_writes_elsewhere() -> None:
    assert commands.merge(adapter=ADAPTER, output=RunPath("output")) == (
        "python",
        "-m",
        "axolotl.cli.merge_lora",
        "ftlaunch.yml",
        "--strict=False",
        flag("lora_model_dir"),
        flag("output_dir", "output"),
    )
    assert commands.merge(adapter=ADAPTER)[-1] == flag("lora_model_dir")


def test_inference_passes_the_adapter() -> None:
    assert commands.inference(target=CPU, adapter=ADAPTER) == (
        *ON_CPU,
        "axolotl.cli.inference",
        "ftlaunch.yml",
        "--strict=False",
        flag("lora_model_dir"),
    )


def test_inference_of_a_full_fine_tuning_passes_the_model_instead() -> None:
    argv = commands.inference(target=GPU, model=ADAPTER)
    assert argv[-2:] == ("--strict=False", flag("base_model"))


def test_inference_with_the_base_model_overrides_an_adapter_the_config_names() -> None:
    argv = commands.inference(target=GPU, base=True)
    assert argv[-2:] == ("--strict=False", "--lora_model_dir=None")


@pytest.mark.parametrize("weights", [{}, {"adapter": ADAPTER, "base": True}])
def test_weights_are_named_once(weights: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        commands.inference(target=CPU, **weights)  # type: ignore[arg-type]


def test_inference_is_one_process_however_many_gpus_there_are() -> None:
    argv = commands.inference(target=Target("cuda", gpus=8), adapter=ADAPTER)
    assert argv[: len(ON_GPU)] == ON_GPU


def test_chat() -> None:
    argv = commands.inference(target=CPU, adapter=ADAPTER, mode="chat")
    assert argv == (
        *ON_CPU,
        "axolotl.cli.inference",
        "ftlaunch.yml",
        "--chat",
        "--strict=False",
        flag("lora_model_dir"),
    )


def test_gradio_opens_no_public_link_and_no_other_interface() -> None:
    argv = commands.inference(target=CPU, adapter=ADAPTER, mode="gradio", port=7861)
    assert argv == (
        *ON_CPU,
        "axolotl.cli.inference",
        "ftlaunch.yml",
        "--gradio",
        "--strict=False",
        flag("lora_model_dir"),
        "--gradio_share=False",
        "--gradio_server_name=127.0.0.1",
        "--gradio_server_port=7861",
    )


def test_a_port_without_a_page_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="port"):
        commands.inference(target=CPU, adapter=ADAPTER, mode="chat", port=1)


def test_evaluate() -> None:
    assert commands.evaluate(target=CPU, adapter=ADAPTER) == (
        *ON_CPU,
        "axolotl.cli.evaluate",
        "ftlaunch.yml",
        "--strict=False",
        flag("lora_model_dir"),
    )


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"adapter": ADAPTER}, flag("adapter")),
        ({"model": ADAPTER}, flag("model")),
        ({"base": True}, "--base"),
    ],
)
def test_answer_prompts(weights: dict[str, object], said: object) -> None:
    argv = commands.answer_prompts(
        prompts=RunPath("prompts.jsonl"),
        answers=RunPath("output/answers.jsonl"),
        decoding=Decoding(max_new_tokens=64, batch_size=4),
        **weights,  # type: ignore[arg-type]
    )
    assert argv == (
        "python",
        RunPath("workers/answer_prompts.py"),
        "--config=ftlaunch.yml",
        said,
        flag("prompts", "prompts.jsonl"),
        flag("answers", "output/answers.jsonl"),
        "--max-new-tokens=64",
        "--repetition-penalty=1.1",
        "--temperature=0.0",
        "--batch-size=4",
    )


def test_wrappers_hand_the_command_on_unchanged() -> None:
    chat = commands.inference(target=CPU, adapter=ADAPTER, mode="chat")
    served = commands.serve_terminal(chat, port=7000, idle_seconds=60)
    page = commands.inference(target=CPU, adapter=ADAPTER, mode="gradio")
    guarded = commands.guard_idle(page, port=7000, idle_seconds=60)
    assert served == (
        "python",
        RunPath("workers/serve_terminal.py"),
        "--port=7000",
        "--idle-seconds=60",
        "--",
        *chat,
    )
    assert guarded == (
        "python",
        RunPath("workers/idle_guard.py"),
        "--port=7000",
        "--idle-seconds=60",
        "--tell=--gradio_server_port=",
        "--",
        *page,
    )


def test_no_command_carries_the_terminals_token() -> None:
    argv = commands.serve_terminal(("axolotl",), port=1)
    assert not any(commands.TOKEN_VARIABLE in str(word) for word in argv)


@pytest.mark.parametrize(
    "name", [commands.ANSWER_PROMPTS, commands.SERVE_TERMINAL, commands.IDLE_GUARD]
)
def test_workers_are_there_and_stand_alone(name: str) -> None:
    source = commands.worker_source(name)
    lines = [line.strip() for line in source.read_text().splitlines()]
    imports = [
        line.split()[1].split(".")[0] for line in lines if re.match(r"(import|from) \w", line)
    ]
    theirs = {"axolotl", "torch", "transformers"}  # only where a job has them
    assert set(imports) <= set(sys.stdlib_module_names) | theirs
    assert commands.worker(name) == RunPath(str(Path("workers") / name))


@pytest.mark.parametrize(("gpus", "processes"), [(1, "3"), (8, "24")])
def test_of_several_nodes_each_is_told_its_rank_and_where_the_first_one_is(
    gpus: int, processes: str
) -> None:
    argv = commands.train(target=Target("cuda", gpus=gpus, nodes=3), extra=("--rdzv_conf", "x=1"))
    assert argv == (
        *("accelerate", "launch", "--multi_gpu", "--num_processes", processes),
        *("--num_machines", "3", "--machine_rank", NodeFact("rank")),
        *("--main_process_ip", NodeFact("address"), "--main_process_port", NodeFact("port")),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--rdzv_conf", "x=1", "-m"),
        *("axolotl.cli.train", "ftlaunch.yml"),
    )
    assert "--machine_rank $NODE_RANK --main_process_ip $NODE_ADDRESS" in command_text(argv)


def test_only_a_training_takes_more_than_one_node() -> None:
    several = Target("cuda", gpus=2, nodes=2)
    for argv in (
        commands.evaluate(target=several, adapter=ADAPTER),
        commands.inference(target=several, adapter=ADAPTER),
    ):
        assert "--machine_rank" not in argv
        assert argv[argv.index("--num_machines") + 1] == "1"


def test_several_nodes_without_a_gpu_are_refused_in_a_sentence() -> None:
    with pytest.raises(Unsupported, match="2 nodes at once needs a GPU on each"):
        Target("cpu", nodes=2)


def test_a_cuda_target_without_a_gpu_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="GPU"):
        Target("cuda")


def test_a_resumed_training_names_its_checkpoint_past_a_strict_config() -> None:
    place = "inputs/resumed/output/checkpoint-8"
    argv = commands.train(target=commands.Target("cpu"), resume=RunPath(place))
    assert argv[-3:] == (
        "ftlaunch.yml",
        "--strict=False",
        RunPath(place, prefix="--resume_from_checkpoint="),
    )
