"""Every command a job runs, spelled once, as argv.

Nothing here looks at a recipe: a command names the config by its path in the working directory, and
what differs between machines comes in as a `Target`. Programs are bare names, found on the PATH of
the environment the job runs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from backends.errors import Unsupported
from backends.plan import Argument, Newest, NodeFact, RunPath

Argv = tuple[Argument, ...]
Mode = Literal["prompt", "chat", "gradio"]

CONFIG = "ftlaunch.yml"
"""The config every command reads, in the job's working directory."""

WORKERS = PurePosixPath("workers")
"""Where our own scripts lie in the run directory; `worker_source` says where they come from."""

ANSWER_PROMPTS = "answer_prompts.py"
SERVE_TERMINAL = "serve_terminal.py"
IDLE_GUARD = "idle_guard.py"

TOKEN_VARIABLE = "FTLAUNCH_TERMINAL_TOKEN"  # noqa: S105 - a name, not the token
"""The environment variable that carries the terminal's token to `serve_terminal.py`."""

_OVERRIDE = "--strict=False"
"""First of all overrides: under `strict: true` axolotl drops those whose key the file lacks, among
them the adapter and `gradio_share`, without a word."""


@dataclass(frozen=True)
class Target:
    """The machine a command runs on.

    gpus   per node; 0 for a CPU
    nodes  machines that train together
    """

    kind: Literal["cpu", "cuda"]
    gpus: int = 0
    nodes: int = 1

    def __post_init__(self) -> None:
        if self.kind == "cuda" and self.gpus < 1:
            raise ValueError("a cuda target has at least one GPU")
        if self.kind == "cpu" and self.nodes > 1:
            raise Unsupported(
                f"training on {self.nodes} nodes at once needs a GPU on each: "
                "accelerate starts one process where there is none",
                hint="ask for GPUs with -g, or leave hardware.nodes out",
            )


@dataclass(frozen=True)
class Decoding:
    """How answers are made; the defaults are axolotl's own, but greedy.

    temperature  0 is greedy; above it, axolotl's sampling (top_p 0.95, top_k 40)
    batch_size   prompts answered at once; 1 computes exactly what axolotl's own command computes
    """

    max_new_tokens: int = 1024
    repetition_penalty: float = 1.1
    temperature: float = 0.0
    batch_size: int = 8


@dataclass(frozen=True)
class Trained:
    """Which weights a command speaks with: exactly one of the three.

    adapter  a folder with a LoRA adapter, put on the config's base model
    model    a folder with a whole model (full fine-tuning), in place of the base model
    base     the base model as it is
    """

    adapter: RunPath | None = None
    model: RunPath | None = None
    base: bool = False

    def __post_init__(self) -> None:
        if [self.adapter is not None, self.model is not None, self.base].count(True) != 1:
            raise ValueError("name exactly one of adapter, model and base")


def preprocess(config: str = CONFIG) -> Argv:
    """Tokenise the data set into `dataset_prepared_path`."""
    return ("python", "-m", "axolotl.cli.preprocess", config)


def train(
    config: str = CONFIG,
    *,
    target: Target,
    extra: Sequence[str] = (),
    resume: RunPath | None = None,
) -> Argv:
    """Train. `extra` are the user's own arguments to the launcher; they win over ours.

    resume  a checkpoint's folder to go on from
    """
    argv = (*launch(target, extra), "axolotl.cli.train", config)
    if resume is None:
        return argv
    return (*argv, _OVERRIDE, _flag("resume_from_checkpoint", resume))


TRAIN_AGAIN: tuple[Argument | Newest, ...] = (_OVERRIDE, Newest("--resume_from_checkpoint="))
"""Added to `train` when it begins once more in its own run directory (see `Step.again`)."""


def merge(config: str = CONFIG, *, adapter: RunPath, output: RunPath | None = None) -> Argv:
    """Merge the adapter into its base model, in `merged/` under `output` (else `output_dir`).

    The adapter's folder is only read.
    """
    flags: list[Argument] = [_OVERRIDE, _flag("lora_model_dir", adapter)]
    if output is not None:
        flags.append(_flag("output_dir", output))
    return ("python", "-m", "axolotl.cli.merge_lora", config, *flags)


def inference(
    config: str = CONFIG,
    *,
    target: Target,
    adapter: RunPath | None = None,
    model: RunPath | None = None,
    base: bool = False,
    mode: Mode = "prompt",
    port: int | None = None,
) -> Argv:
    """Axolotl's own inference: one prompt from stdin, a chat in a terminal, or a web page.

    adapter, model, base  as in `Trained`
    port                  of the web page; None when `idle_guard` is to choose it

    The page is served on the loopback interface and never opens a public link.
    """
    if port is not None and mode != "gradio":
        raise ValueError("only gradio serves a port")
    module = (*launch(_one_process(target)), "axolotl.cli.inference", config)
    weights = _weights(Trained(adapter, model, base))
    if mode == "prompt":
        return (*module, *weights)
    if mode == "chat":
        return (*module, "--chat", *weights)
    page = ["--gradio_share=False", "--gradio_server_name=127.0.0.1"]
    if port is not None:
        page.append(f"--gradio_server_port={port}")
    return (*module, "--gradio", *weights, *page)


def evaluate(
    config: str = CONFIG,
    *,
    target: Target,
    adapter: RunPath | None = None,
    model: RunPath | None = None,
    base: bool = False,
) -> Argv:
    """Evaluate on the recipe's data, on one node; `eval_summary.csv` goes into `output_dir`."""
    weights = _weights(Trained(adapter, model, base))
    alone = replace(target, nodes=1)
    return (*launch(alone), "axolotl.cli.evaluate", config, *weights)


def answer_prompts(
    config: str = CONFIG,
    *,
    prompts: RunPath,
    answers: RunPath,
    adapter: RunPath | None = None,
    model: RunPath | None = None,
    base: bool = False,
    decoding: Decoding | None = None,
) -> Argv:
    """Answer a file of prompts with our own worker; adapter, model, base as in `Trained`."""
    trained = Trained(adapter, model, base)
    how = decoding or Decoding()
    weights: tuple[Argument, ...] = ("--base",)
    if trained.adapter is not None:
        weights = (_flag("adapter", trained.adapter),)
    elif trained.model is not None:
        weights = (_flag("model", trained.model),)
    return (
        "python",
        worker(ANSWER_PROMPTS),
        f"--config={config}",
        *weights,
        _flag("prompts", prompts),
        _flag("answers", answers),
        f"--max-new-tokens={how.max_new_tokens}",
        f"--repetition-penalty={how.repetition_penalty}",
        f"--temperature={how.temperature}",
        f"--batch-size={how.batch_size}",
    )


def serve_terminal(argv: Argv, *, port: int, idle_seconds: int = 900) -> Argv:
    """Run `argv` in a terminal that `launcher.terminal` attaches to over a tunnel to `port`.

    The job needs TOKEN_VARIABLE among its secrets.
    """
    flags = (f"--port={port}", f"--idle-seconds={idle_seconds}", "--")
    return ("python", worker(SERVE_TERMINAL), *flags, *argv)


def guard_idle(argv: Argv, *, port: int, idle_seconds: int = 900) -> Argv:
    """Serve the web page of `argv` on `port`, and end it when nobody uses it.

    `argv` is an `inference` without a port: the guard appends the one it chose.
    """
    flags = (f"--port={port}", f"--idle-seconds={idle_seconds}", "--tell=--gradio_server_port=")
    return ("python", worker(IDLE_GUARD), *flags, "--", *argv)


def worker(name: str) -> RunPath:
    """Where one of our scripts is found by a job."""
    return RunPath(str(WORKERS / name))


def worker_source(name: str) -> Path:
    """The script itself, on this machine; it belongs at `worker(name)` in the run directory."""
    return Path(__file__).parent / "workers" / name


def launch(target: Target, extra: Sequence[str] = ()) -> Argv:
    """`accelerate launch … -m`, with every value given, so that it asks for and guesses nothing.

    A module and its arguments follow. Of several nodes each has its own rank, and the first one's
    address and a port that is free there, which only that node's runner knows.

    Precision, FSDP and DeepSpeed stay with the config: axolotl sets accelerate's environment itself
    once the processes run, and passes no such flag either.
    """
    kind: tuple[str, ...] = ()
    processes = max(target.gpus, 1) * target.nodes if target.kind == "cuda" else 1
    place: Argv = ()
    if target.kind == "cpu":
        kind = ("--cpu",)
    elif processes > 1:
        kind = ("--multi_gpu",)
    if target.nodes > 1:
        place = (
            *("--machine_rank", NodeFact("rank")),
            *("--main_process_ip", NodeFact("address")),
            *("--main_process_port", NodeFact("port")),
        )
    return (
        "accelerate",
        "launch",
        *kind,
        "--num_processes",
        str(processes),
        "--num_machines",
        str(target.nodes),
        *place,
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        *extra,
        "-m",
    )


def _one_process(target: Target) -> Target:
    """The same machine for a command that talks to one person: one process sees all its GPUs."""
    return Target(target.kind, min(target.gpus, 1))


def _weights(trained: Trained) -> Argv:
    if trained.adapter is not None:
        return (_OVERRIDE, _flag("lora_model_dir", trained.adapter))
    if trained.model is not None:
        return (_OVERRIDE, _flag("base_model", trained.model))
    # The adapter key stays: quantised bases need it, and an untrained LoRA changes no output.
    return (_OVERRIDE, "--lora_model_dir=None")


def _flag(name: str, path: RunPath) -> RunPath:
    """`--name=PATH`. The path is absolute: fire takes what starts with a slash for plain text."""
    return RunPath(path.path, prefix=f"--{name}={path.prefix}")
