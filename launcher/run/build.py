"""Jobs of a run, built from its specification: one function per kind of job."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from backends.job import LocalFile
from backends.offer import Offer
from backends.plan import CheckpointRule, Plan, RunPath, Step, StopRecipe
from launcher import commands, metrics
from launcher.on_finish import OnFinish
from launcher.run.spec import AttachJob, JobSpec, RunSpec

TRAINED = PurePosixPath("inputs/train")
"""Where a later job sees the training's run directory."""

PREPARED = PurePosixPath("inputs/prepared")
"""Where a training sees the run directory of the job that got its data ready."""

RESUMED = PurePosixPath("inputs/resumed")
"""Where a training sees the run directory of the one it goes on from."""

OUTPUT = RunPath(str(TRAINED / "output"))

ANSWERS = PurePosixPath("output/answers.jsonl")

_NOT_PREPROCESSED = ("skip_prepare_dataset", "pretraining_dataset", "streaming")
"""Keys of configs whose data axolotl only looks at while it trains."""

_TRIGGER = "output/axolotl_checkpoint.save"

CHECKPOINT = CheckpointRule(
    glob="output/checkpoint-*",
    requires=(
        # One file, a sharded model, FSDP's shards, DeepSpeed's own folder.
        (
            *("adapter_model.safetensors", "adapter_model.bin"),
            *("model*.safetensors", "pytorch_model*.bin"),
            *("pytorch_model_fsdp_0/*", "global_step*/*"),
        ),
        ("optimizer.pt", "optimizer.bin", "optimizer_0/*", "global_step*/*"),
        ("scheduler.pt", "global_step*/*"),
        ("rng_state*.pth",),
        ("trainer_state.json",),  # transformers writes this one last
    ),
)


def prepares_apart(spec: RunSpec, offer: Offer) -> bool:
    """Whether data and base model are got ready by a job of its own, before a GPU is taken.

    For what axolotl does not preprocess there is nothing that the training could take over.
    """
    asked = spec.steps.preprocess and spec.steps.train and spec.target.kind == "cuda"
    return asked and offer.plain is not None and not any(map(spec.config.get, _NOT_PREPROCESSED))


def prepare(spec: RunSpec) -> JobSpec:
    """Preprocess, which also downloads the base model: into a cache that later jobs see.

    What it prepared is kept for the training, and not after it, whatever is wished for the rest.
    """
    job = _job(spec, "preprocess", [_step(spec, "preprocess", commands.preprocess())], data=True)
    return dataclasses.replace(job, pull=(), on_finish=None)


def train(
    spec: RunSpec, *, resume: tuple[int, str] | None = None, prepared: int | None = None
) -> JobSpec:
    """Preprocess, as the recipe says, and train.

    resume    an earlier job's id and the checkpoint to go on from, relative to its run directory
    prepared  the job that preprocessed, when it was one of its own
    """
    steps = []
    if prepared is not None:
        steps.append(_bring_prepared(spec))
    elif spec.steps.preprocess:
        steps.append(_step(spec, "preprocess", commands.preprocess()))
    if spec.steps.train:
        checkpoint = None if resume is None else RunPath(str(RESUMED / resume[1]))
        argv = commands.train(target=spec.target, extra=spec.extra, resume=checkpoint)
        step = _step(spec, "train", argv)
        steps.append(dataclasses.replace(step, again=commands.TRAIN_AGAIN))
    attach: tuple[AttachJob, ...] = ()
    if resume is not None:
        attach = (AttachJob(resume[0], RESUMED, PurePosixPath(resume[1]), anyhow=True),)
    if prepared is not None:
        attach = (*attach, AttachJob(prepared, PREPARED, _prepared(spec)))
    job = _job(spec, "train" if spec.steps.train else "preprocess", steps, data=True)
    after = prepared is not None
    # Preprocessing, too: each node's disk is its own, and axolotl looks for the data on it.
    nodes = spec.target.nodes
    return dataclasses.replace(
        job, attach=attach, pull=_pulled(spec), after_success=after, nodes=nodes
    )


def _prepared(spec: RunSpec) -> PurePosixPath:
    """Where the prepared data lie in a run directory."""
    return spec.workdir / str(spec.config["dataset_prepared_path"])


def _bring_prepared(spec: RunSpec) -> Step:
    """Copy the prepared data: axolotl writes its own marks beside them, and an input is read-only.

    They go where this job would have made them: axolotl's name for them says their place. Once more
    in each attempt: of a container that was preempted meanwhile a part may have been kept.
    """
    path = str(spec.config["dataset_prepared_path"])
    argv = ("cp", "-R", "--parents", "--no-preserve=mode", path, RunPath(str(spec.workdir)))
    there = str(PREPARED / spec.workdir)
    return Step(name="prepared", argv=argv, cwd=there)


def merge(spec: RunSpec, trained: int) -> JobSpec:
    """Merge the adapter into its base model; the result is `output/merged`."""
    argv = commands.merge(adapter=OUTPUT, output=RunPath("output"))
    return _after(spec, "merge", trained, [_step(spec, "merge", argv)])


def evaluate(spec: RunSpec, trained: int) -> JobSpec:
    """Run the recipe's own evaluation on the trained model."""
    weights = _weights(spec, base=False)
    argv = commands.evaluate(
        target=spec.target, adapter=weights.adapter, model=weights.model, base=weights.base
    )
    job = _after(spec, "evaluate", trained, [_step(spec, "evaluate", argv)])
    return _with_files(job, *spec.data)


def prompt(spec: RunSpec, trained: int, text: LocalFile, *, base: bool) -> JobSpec:
    """Axolotl's own inference command on one prompt, which comes on its standard input."""
    argv = _inference(spec, mode="prompt", base=base)
    step = dataclasses.replace(_step(spec, "inference", argv), stdin=str(text.at))
    return _with_files(_asked(spec, trained, step), text)


def prompts(
    spec: RunSpec, trained: int, rows: LocalFile, *, base: bool, decoding: commands.Decoding
) -> JobSpec:
    """Many prompts, answered by one process that stays up, into `output/answers.jsonl`."""
    weights = _weights(spec, base=base)
    argv = commands.answer_prompts(
        prompts=RunPath(str(rows.at)),
        answers=RunPath(str(ANSWERS)),
        adapter=weights.adapter,
        model=weights.model,
        base=weights.base,
        decoding=decoding,
    )
    job = _asked(spec, trained, _step(spec, "inference", argv))
    job = dataclasses.replace(job, pull=(str(ANSWERS),))
    return _with_files(job, rows, worker_file(commands.ANSWER_PROMPTS))


def chat(spec: RunSpec, trained: int, *, port: int, idle_seconds: int, base: bool) -> JobSpec:
    """Axolotl's chat in a terminal that a tunnel to `port` reaches; ended when nobody uses it."""
    argv = commands.serve_terminal(
        _inference(spec, mode="chat", base=base), port=port, idle_seconds=idle_seconds
    )
    job = _served(spec, trained, argv, port, commands.SERVE_TERMINAL)
    return dataclasses.replace(job, secrets=(*job.secrets, commands.TOKEN_VARIABLE))


def gradio(spec: RunSpec, trained: int, *, port: int, idle_seconds: int, base: bool) -> JobSpec:
    """Axolotl's web page, served on `port` of the job's loopback; ended when nobody uses it."""
    argv = commands.guard_idle(
        _inference(spec, mode="gradio", base=base), port=port, idle_seconds=idle_seconds
    )
    return _served(spec, trained, argv, port, commands.IDLE_GUARD)


def worker_file(name: str) -> LocalFile:
    """One of our workers, as a file that travels with a job."""
    here = commands.worker_source(name)
    content = here.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return LocalFile(here, commands.WORKERS / name, len(content), digest)


def _inference(spec: RunSpec, *, mode: commands.Mode, base: bool) -> commands.Argv:
    weights = _weights(spec, base=base)
    return commands.inference(
        target=spec.target,
        adapter=weights.adapter,
        model=weights.model,
        base=weights.base,
        mode=mode,
    )


def _weights(spec: RunSpec, *, base: bool) -> commands.Trained:
    if base:
        return commands.Trained(base=True)
    return commands.Trained(model=OUTPUT) if spec.full else commands.Trained(adapter=OUTPUT)


def _served(spec: RunSpec, trained: int, argv: commands.Argv, port: int, worker: str) -> JobSpec:
    job = _asked(spec, trained, _step(spec, "inference", argv))
    return _with_files(dataclasses.replace(job, ports=(port,)), worker_file(worker))


def _step(spec: RunSpec, name: str, argv: commands.Argv) -> Step:
    return Step(name=name, argv=argv, cwd=str(spec.workdir))


def _job(spec: RunSpec, kind: str, steps: Sequence[Step], *, data: bool) -> JobSpec:
    return JobSpec(
        kind=kind,
        plan=Plan(
            steps=tuple(steps),
            stop=StopRecipe(touch=(_TRIGGER,), steps=("train",)),
            checkpoint=CHECKPOINT,
            metrics=metrics.PATTERNS,
        ),
        files=(*spec.small, *spec.data) if data else spec.small,
        caches=spec.caches,
        environment=spec.environment,
        env=environment(spec.env),
        secrets=spec.secrets,
        kept_secrets=spec.kept_secrets,
        deadline=spec.max_duration,
        on_finish=spec.on_finish,
    )


def _after(spec: RunSpec, kind: str, trained: int, steps: Sequence[Step]) -> JobSpec:
    job = _job(spec, kind, steps, data=False)
    # axolotl writes a debug.log of every command; the training's must not be written over.
    pull = ("output/**", "!output/debug.log")
    return dataclasses.replace(job, attach=(AttachJob(trained, TRAINED),), pull=pull)


def _asked(spec: RunSpec, trained: int, step: Step) -> JobSpec:
    """A question: its answer goes to whoever asked, and nothing to the run's results.

    What it ran on is never held: nobody would come back for it.
    """
    job = _after(spec, "inference", trained, [step])
    wish = None if spec.on_finish is OnFinish.KEEP else spec.on_finish
    return dataclasses.replace(job, pull=(), on_finish=wish)


def _with_files(job: JobSpec, *files: LocalFile) -> JobSpec:
    return dataclasses.replace(job, files=(*job.files, *files))


def _pulled(spec: RunSpec) -> tuple[str, ...]:
    return spec.artifacts or ("output/**", "!output/checkpoint-*/**")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables every job gets, under the user's own.

    axolotl reports home unless told not to; without buffering its log arrives as it is written.
    """
    return {"AXOLOTL_DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", **given}
