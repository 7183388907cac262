"""What sending a run's files will take: a rented GPU waits meanwhile, and is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backends.lease import Phase
from backends.offer import FREE, Money
from launcher.planning import Prepared
from launcher.run import limits
from launcher.store import JobRecord, Store

GUESS_BYTES_PER_S = 1_250_000
"""Ten megabits a second, until a launch has measured it: a slow home line's uplink."""

WORTH_A_WARNING = 0.05
"""The part of a job's time above which an upload is warned of."""


@dataclass(frozen=True)
class Upload:
    """The files' way to a machine.

    took         how long it should take; the machine waits for as long
    cost         of that time at the offer's price
    measured_at  when the way was last measured; None: its speed is a guess
    share        of the whole job's time; None where nothing says how long that is
    """

    size_bytes: int
    took: timedelta
    cost: Money
    measured_at: datetime | None
    share: float | None

    @property
    def heavy(self) -> bool:
        """Whether it should be warned of."""
        return self.share is not None and self.share > WORTH_A_WARNING


def upload(prepared: Prepared, store: Store) -> Upload | None:
    """What the upload of a planned run takes; None where nothing is sent over a network."""
    if prepared.offer.here:
        return None
    # Each machine gets its own; where their disk is one it is less. What is not there before a job
    # begins is sent nothing: the files wait for all of them in one place.
    copies = 1 if prepared.offer.ends else prepared.offer.nodes
    size = (prepared.bundle.size_bytes + _model_bytes(prepared)) * copies
    known = store.uplink(prepared.backend_spec)
    speed = GUESS_BYTES_PER_S if known is None else known.bytes_per_second
    took = timedelta(seconds=size / speed)
    whole = _whole(prepared, store)
    return Upload(
        size_bytes=size,
        took=took,
        cost=FREE if prepared.offer.ends else prepared.offer.cost_of(took),
        measured_at=None if known is None else known.measured_at,
        share=None if whole is None or prepared.offer.ends else took / (took + whole),
    )


def _model_bytes(prepared: Prepared) -> int:
    """A base model that is unpacked here and sent from here, once it is here."""
    if prepared.model is None:
        return 0
    from launcher import models

    folder = models.present(prepared.model)
    if folder is None:
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _whole(prepared: Prepared, store: Store) -> timedelta | None:
    """How long the training should take: as the last one of this recipe there, else its limit."""
    for run in store.runs(limit=50):
        if (run.recipe, run.backend) == (prepared.recipe.origin, prepared.backend_spec):
            found = _trained(store.jobs(run.id))
            if found is not None:
                return found
    return limits.whole(prepared.run.max_duration, prepared.run.max_cost, prepared.offer)


def _trained(jobs: Sequence[JobRecord]) -> timedelta | None:
    for job in jobs:
        done = job.kind == "train" and job.phase is Phase.SUCCEEDED
        if done and job.launched_at is not None and job.ended_at is not None:
            return job.ended_at - job.launched_at
    return None
