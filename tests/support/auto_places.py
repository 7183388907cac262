"""Places that refuse what they are told to refuse, and the desk of a run that goes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import cast

from toy_run import Toy

from backends import Files, Job, Lease, Observation, Phase
from backends.errors import FtlaunchError, Lost, MayStillBill, NoCapacity
from backends.lease import Keep
from backends.offer import Money, Need, Offer
from backends.protocol import Backend, Progress
from launcher.run import conductor, spec
from launcher.run.desk import Desk
from launcher.run.loaded import Backends
from launcher.run.spec import Elsewhere
from launcher.store import JobRecord

FULL = NoCapacity("nothing is free")
OFFER = Offer("first", "L4", 1, Money(Decimal(1)))
OTHER = Offer("second", "A100-80GB", 2, Money(Decimal(2)))
PLAIN = Offer("first", None, 0, Money(Decimal("0.1")), ends=True)
QUEUED = replace(OFFER, ends=True)


class Place:
    """A backend whose launches fail as told, and whose jobs stand as told."""

    def __init__(
        self,
        name: str,
        *,
        fails: FtlaunchError | None = None,
        has: Sequence[Offer] | FtlaunchError | None = None,
    ) -> None:
        self.name = name
        self.fails = fails
        self.has = has
        self.looked = 0
        self.asked: list[str] = []
        self.released: list[str] = []
        self.unconfirmed = False
        self.seen = Observation(Phase.SUCCEEDED)

    def leases(self) -> Sequence[Lease]:
        return []

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        self.looked += 1
        assert live
        if isinstance(self.has, FtlaunchError):
            raise self.has
        return self.has or []

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        self.asked.append(job.name)
        if self.fails is not None:
            raise self.fails
        lease = Lease(self.name, "1", job.name, Files(self.name, "1"), datetime.now(UTC))
        on_lease(lease)
        return lease

    def observe(self, lease: Lease) -> Observation:
        return self.seen

    def signal(self, *_: object, **__: object) -> None:
        return None

    def read(self, *_: object, **__: object) -> Iterator[bytes]:
        raise Lost("there is no such file")

    def listing(self, files: Files) -> dict[PurePosixPath, int]:
        return {}

    def fetch(self, *_: object) -> None:
        return None

    def release(self, lease: Lease, *, keep: Keep) -> None:
        if self.unconfirmed:
            raise MayStillBill("not confirmed")
        self.released.append(lease.job)


class Two(Backends):
    """Places that have what the plan says they have, unless they are told another thing."""

    def __init__(self, planned: Sequence[Elsewhere], *places: Place) -> None:
        super().__init__(Path("/nowhere"))
        self._places = {one.backend: Place(one.backend) for one in planned}
        self._places |= {place.name: place for place in places}
        for one in self._places.values():
            if one.has is None:
                one.has = [other.offer for other in planned if other.backend == one.name]

    def named(self, spec: str) -> Backend:
        return cast("Backend", self._places[spec])


def desk_of(made: Toy, *places: Place) -> Desk:
    settled = spec.run_from_json(made.store.run_spec(made.run.id))
    return Desk(made.store, made.run, Two(settled.elsewhere, *places), settled)


def finished(made: Toy, *places: Place) -> None:
    conductor.Conductor(desk_of(made, *places)).finish()


def job_of(made: Toy, number: int = 0) -> JobRecord:
    return made.store.jobs(made.run.id)[number]


PLACES = [("first", OFFER), ("second", OTHER)]


def waited(made: Toy, minutes: float) -> JobRecord:
    job = job_of(made)
    made.store.mark_intent(job.id)
    made.store.mark_launched(job.id, launched_at=datetime.now(UTC) - timedelta(minutes=minutes))
    return job_of(made)


def with_likely(made: Toy, *likely: tuple[str | None, float | None]) -> None:
    """What is estimated for its other offers: dollars and hours."""
    settled = spec.run_from_json(made.store.run_spec(made.run.id))
    others = tuple(
        replace(
            one,
            likely_cost=None if cost is None else Decimal(cost),
            likely_time=None if hours is None else timedelta(hours=hours),
        )
        for one, (cost, hours) in zip(settled.elsewhere, likely, strict=True)
    )
    text = spec.run_to_json(replace(settled, elsewhere=others))
    made.store.move_run(made.run.id, backend="first", spec=text)
