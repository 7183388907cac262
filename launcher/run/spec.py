"""What a run is made of, as values that the store keeps and any later process can read.

A `RunSpec` holds all that is needed to build a further job for the run (merge, inference, resume)
without reading the recipe again. A `JobSpec` is a job before it is launched: it names earlier jobs
instead of their files, and secrets instead of their values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter

from backends.job import Cache, Environment, LocalFile
from backends.offer import Need, Offer
from backends.plan import Plan
from launcher.commands import Target
from launcher.on_finish import OnFinish


@dataclass(frozen=True)
class AttachJob:
    """The run directory of an earlier job of the run, seen at `at`.

    needs  the one folder of it that is needed, relative to that run directory; None: its results.
           Where the provider no longer holds the run directory, only that much is sent again.
    anyhow it is worked on however that job ended, also in a job that is `after_success`
    """

    job_id: int
    at: PurePosixPath
    needs: PurePosixPath | None = None
    anyhow: bool = False


@dataclass(frozen=True)
class JobSpec:
    """A job that can be launched by any process that has the secrets.

    kept_secrets   those that a provider keeps, as `BACKEND:NAME`
    pull           globs of what comes home; `!` in front leaves out
    on_finish      what becomes of the machine at the end; None: what its price makes sensible
    after_success  left out unless the jobs it is attached to have succeeded
    nodes          machines that run it together
    """

    kind: str
    plan: Plan
    files: tuple[LocalFile, ...] = ()
    attach: tuple[AttachJob, ...] = ()
    caches: tuple[Cache, ...] = ()
    environment: Environment = field(default_factory=Environment)
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    kept_secrets: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ("output/**",)
    pull: tuple[str, ...] = ("output/**",)
    deadline: timedelta | None = None
    on_finish: OnFinish | None = None
    after_success: bool = False
    nodes: int = 1


def waits_for(job: JobSpec) -> list[int]:
    """The jobs that must succeed before this one is tried."""
    return [one.job_id for one in job.attach if job.after_success and not one.anyhow]


@dataclass(frozen=True)
class Steps:
    """Which parts of the job the recipe asks for."""

    preprocess: bool = True
    train: bool = True
    merge: bool = True
    evaluate: bool = False


@dataclass(frozen=True)
class Elsewhere:
    """Another offer that the run may go to, and the backend that has it, as `-b` takes it.

    likely_cost  dollars of the whole job, as estimated; None: nobody knows
    likely_time  of the whole job, likewise
    """

    backend: str
    offer: Offer
    likely_cost: Decimal | None = None
    likely_time: timedelta | None = None


@dataclass(frozen=True)
class RunSpec:
    """The settled recipe.

    config    the derived axolotl config, as data; `workdir` is where it lies in the run directory
    small     files every job of the run needs (templates, modules, JSON): copies of ours
    data      data sets, which only training and evaluation need
    extra     launcher arguments after `--`
    need      the hardware that was asked for; None in runs of an older ftlaunch
    max_price dollars an hour, at most
    image     a published image by its digest, where the provider takes one; None: our lock
    elsewhere where the training goes when there is no capacity, the best first; empty: nowhere
    left_out  other places that were looked at, and why it cannot go there, a sentence each
    workload  what is estimated for it, in the form of `quotes.learning`; None: nothing can be
    max_wait  how long it waits in a provider's queue while there is one of `elsewhere`
    """

    recipe: str
    config: dict[str, Any]
    workdir: PurePosixPath
    small: tuple[LocalFile, ...]
    data: tuple[LocalFile, ...]
    caches: tuple[Cache, ...]
    target: Target
    environment: Environment
    env: dict[str, str]
    secrets: tuple[str, ...]
    steps: Steps
    extra: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    max_duration: timedelta | None = None
    max_cost: Decimal | None = None
    on_finish: OnFinish | None = None
    need: Need | None = None
    max_price: Decimal | None = None
    kept_secrets: tuple[str, ...] = ()
    image: str | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    left_out: tuple[str, ...] = ()
    max_wait: timedelta | None = None
    workload: str | None = None

    @property
    def full(self) -> bool:
        """Full fine-tuning: the output is a model, not an adapter."""
        return not self.config.get("adapter")


_RUN = TypeAdapter(RunSpec)
_JOB = TypeAdapter(JobSpec)
_OFFER = TypeAdapter(Offer)


def run_to_json(spec: RunSpec) -> str:
    """A run's specification as text."""
    return _RUN.dump_json(spec).decode()


def run_from_json(text: str) -> RunSpec:
    """The reverse of `run_to_json`."""
    return _RUN.validate_json(text)


def job_to_json(spec: JobSpec) -> str:
    """A job's specification as text."""
    return _JOB.dump_json(spec).decode()


def job_from_json(text: str) -> JobSpec:
    """The reverse of `job_to_json`."""
    return _JOB.validate_json(text)


def offer_to_json(offer: Offer) -> str:
    """An offer as text."""
    return _OFFER.dump_json(offer).decode()


def offer_from_json(text: str) -> Offer:
    """The reverse of `offer_to_json`."""
    return _OFFER.validate_json(text)


__all__ = [
    "AttachJob",
    "Elsewhere",
    "JobSpec",
    "RunSpec",
    "Steps",
    "job_from_json",
    "job_to_json",
    "offer_from_json",
    "offer_to_json",
    "run_from_json",
    "run_to_json",
]
