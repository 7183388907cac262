"""A run that another computer began: found by its machine's name, and finished from here.

Nothing of it is here but the account. What the run is, is read from the papers that its job took
along (`papers.py`); without them its results still come home, and its machine is let go of.
"""

from __future__ import annotations

import itertools
import re
import secrets as random_source
import sqlite3
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from backends.errors import BadInput, FtlaunchError, Lost, MayStillBill, Refused
from backends.job import Environment
from backends.lease import Lease, Phase
from backends.offer import Offer
from backends.plan import Plan
from backends.protocol import Backend
from launcher import places
from launcher.commands import Target
from launcher.on_finish import OnFinish, some_price
from launcher.run import bringing, conductor, inventory, papers, spec
from launcher.run.papers import Papers, Planned
from launcher.run.spec import JobSpec, RunSpec, Steps
from launcher.store import RunRecord, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_TAG = re.compile(r"ftl-(?P<run>[a-z0-9-]+?)-(?P<kind>[a-z]+)-[0-9a-f]{6}")
_KINDS = frozenset({"train", "preprocess", "merge", "evaluate"})


@dataclass(frozen=True)
class Adopted:
    """A run that is finished from here now.

    job       the kind of the job that was found
    left_out  jobs that cannot be done from here, each in a sentence
    secrets   of this terminal, which its later jobs will be given
    """

    run: RunRecord
    job: str
    left_out: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def strangers(store: Store, backend: Backend) -> list[Lease]:
    """The leases of ours that this computer's store does not know."""
    known = store.job_names()
    return [lease for lease in backend.leases() if lease.job not in known]


def adopt(
    store: Store,
    backend: Backend,
    lease: Lease,
    *,
    folder: Path,
    secrets: Collection[str] = (),
) -> Adopted:
    """Record the lease's run here, and start to finish it.

    folder   results come to `runs/NAME` in it
    secrets  those its later jobs may have: what a machine says it needs is no reason to send it
    Raises MayStillBill for a job that has not begun: whoever lays it out is not disturbed; and what
    the backend raises when its machine cannot be reached. Nothing is recorded then.
    """
    state = inventory.state(backend, lease.files)
    if not state:
        raise MayStillBill(
            f"{lease.job} has not begun: it is being set up, or that was given up",
            hint="look again in some minutes; if nobody is at it, end its machine at "
            f"{backend.name}: no job does",
        )
    found = _papers(backend, lease)
    if found is None:
        found = _without_papers(backend, lease)
    adopting = _Adopting(store, backend, lease, found, folder=folder, secrets=secrets)
    return adopting.recorded(_began(state))


def _papers(backend: Backend, lease: Lease) -> Papers | None:
    try:
        content = b"".join(backend.read(lease.files, papers.AT, offset=0, follow=False))
    except Lost:
        return None
    # The run's id decides where files are staged, and is only known once they are read.
    first = papers.read(content, Path())
    if first is None or first.mine.name != lease.job:
        return None
    return papers.read(content, places.run_dir(first.run_id) / "staged")


def _without_papers(backend: Backend, lease: Lease) -> Papers:
    """The least that can be said of a job by its name: its results are wanted, its machine not."""
    tag = _TAG.fullmatch(lease.job)
    kind = tag["kind"] if tag and tag["kind"] in _KINDS else "train"
    name = tag["run"] if tag else lease.job
    job = JobSpec(kind=kind, plan=Plan(steps=()), on_finish=OnFinish.DESTROY)
    run = RunSpec(
        recipe=name,
        config={},
        workdir=PurePosixPath("bundle"),
        small=(),
        data=(),
        caches=(),
        target=Target("cpu"),
        environment=Environment(),
        env={},
        secrets=(),
        steps=Steps(merge=False),
        on_finish=OnFinish.DESTROY,
    )
    # Not what it costs, which is not known, but whether what it leaves there is billed.
    offer = Offer(backend=backend.name, gpu=None, count=0, price=some_price(backend))
    planned = Planned(1, lease.job, backend.name, job, offer, Phase.RUNNING)
    run_id = f"{int(time.time()):x}{random_source.token_hex(4)}"
    return Papers(run_id, name, "(unknown)", backend.name, run, 1, (planned,))


def _began(state: Mapping[str, object]) -> datetime:
    now = datetime.now(UTC)
    try:
        told = datetime.fromisoformat(str(state.get("started_at")))
    except ValueError:
        return now
    return min(told, now) if told.tzinfo else now


class _Adopting:
    """One run on its way into the store."""

    def __init__(
        self,
        store: Store,
        backend: Backend,
        lease: Lease,
        found: Papers,
        *,
        folder: Path,
        secrets: Collection[str],
    ) -> None:
        self._secrets = secrets
        self._store = store
        self._backend = backend
        self._lease = lease
        self._papers = found
        self._folder = folder
        self._left_out: dict[int, str] = {}
        self._still_there = self._earlier()

    def _earlier(self) -> Mapping[str, Lease]:
        """What earlier jobs of the run left at a provider that holds each job's files apart.

        It comes along: its results come home, and it is let go of like the rest.
        """
        earlier = {
            one.name
            for one in self._papers.jobs
            if one.id < self._papers.job and one.offer.ends and one.phase.ended
        }
        if not earlier:
            return {}
        try:
            found = strangers(self._store, self._backend)
        except FtlaunchError:
            return {}
        return {lease.job: lease for lease in found if lease.job in earlier}

    def recorded(self, began: datetime) -> Adopted:
        """The run, in the store and conducted."""
        run = self._known()
        ids = {} if run is None else self._ids(run)
        for one in self._papers.later:
            if one.id not in ids and (why := self._hindrance(one, ids)):
                self._left_out[one.id] = f"{one.spec.kind} is left out: {why}"
        self._bring_small()
        run = self._written(run, ids, began)
        conductor.start(run.id)
        wanted = [
            name
            for one in self._papers.later
            if one.id not in ids and one.id not in self._left_out
            for name in one.spec.secrets
        ]
        return Adopted(
            run=self._store.run(run.id),
            job=self._papers.mine.spec.kind,
            left_out=tuple(self._left_out.values()),
            secrets=tuple(dict.fromkeys(wanted)),
        )

    def _known(self) -> RunRecord | None:
        """The run, when it is here already: only this job of it is not."""
        try:
            run = self._store.run(self._papers.run_id)
        except BadInput:
            return None
        return run if run.id == self._papers.run_id else None

    def _ids(self, run: RunRecord) -> dict[int, int]:
        here = {job.name: job.id for job in self._store.jobs(run.id)}
        return {one.id: here[one.name] for one in self._papers.jobs if one.name in here}

    def _hindrance(self, one: Planned, ids: Mapping[int, int]) -> str | None:
        """Why a later job cannot be done from here; what it needs is brought here otherwise."""
        for attach in one.spec.attach:
            before = next((b for b in self._papers.jobs if b.id == attach.job_id), None)
            if before is None:
                return "what it builds on is not known here"
            if before.id < self._papers.job and before.id not in ids:
                return f"what {before.spec.kind} left is on the computer that began the run"
            if before.id in self._left_out:
                return f"so is {before.spec.kind}"
        if why := self._distrust(one):
            return why
        if self._papers.may_move and one.spec.kind == "train":
            return "the computer that began the run may have taken it to another provider"
        place = one.backend.partition(":")[0]
        if {place, one.offer.backend} != {self._backend.name}:
            return f"it is to run on {place}, not on {self._backend.name}"
        lock = one.spec.environment.lock
        if lock is not None and not lock.is_file():
            return f"this ftlaunch has no {lock.name}"
        try:
            bringing.bring(self._backend, self._lease.files, bringing.needed(one.spec))
        except (Lost, Refused) as error:
            return error.message
        return None

    def _distrust(self, one: Planned) -> str | None:
        """What a machine says is no reason to rent for it, or to send it a secret."""
        if not one.spec.attach:
            return "nothing says what it builds on"
        for name in (*one.spec.secrets, *one.spec.kept_secrets):
            if name not in self._secrets:
                return f"it asks for the secret {name}; to give it, adopt with: -s {name}"
        return None

    def _bring_small(self) -> None:
        """What a question to the model needs, later."""
        wanted = [(file.at, file) for file in self._papers.spec.small]
        try:
            bringing.bring(self._backend, self._lease.files, wanted)
        except (Lost, Refused):
            return  # the question itself will say which file is missing

    def _written(
        self, known: RunRecord | None, ids: Mapping[int, int], began: datetime
    ) -> RunRecord:
        for number in itertools.count(1):
            try:
                with self._store.together():
                    run = known or self._new_run(self._name(number))
                    self._add_jobs(run, dict(ids), began)
                    self._store.set_run(run.id, Phase.RUNNING)
            except BadInput:
                if known is None and self._known() is not None:
                    raise BadInput(
                        f"{self._lease.job} was adopted in another terminal just now",
                        hint="look with: ftlaunch ps",
                    ) from None
                continue  # the name was taken meanwhile
            except sqlite3.IntegrityError as error:
                raise BadInput(
                    f"{self._lease.job} was adopted in another terminal just now",
                    hint="look with: ftlaunch ps",
                ) from error
            return run
        raise AssertionError

    def _name(self, number: int) -> str:
        """The run's own name; with a number after it when a run or a folder here has that."""
        name = self._papers.name if _NAME.fullmatch(self._papers.name) else "adopted"
        while True:
            one = name if number == 1 else f"{name}-{number}"
            if not self._store.has_name(one) and not (self._folder / "runs" / one).exists():
                return one
            number += 1

    def _new_run(self, name: str) -> RunRecord:
        asked = self._papers.backend
        same = asked.partition(":")[0] == self._backend.name
        return self._store.add_run(
            run_id=self._papers.run_id,
            name=name,
            recipe=self._papers.recipe,
            backend=asked if same else self._backend.name,
            output_dir=self._folder / "runs" / name,
            spec=spec.run_to_json(self._papers.spec),
        )

    def _add_jobs(self, run: RunRecord, ids: dict[int, int], began: datetime) -> None:
        for one in sorted(self._papers.jobs, key=lambda one: one.id):
            if one.id in ids:
                continue
            ids[one.id] = self._add(run, one, ids)
            if one.id == self._papers.job:
                self._take_over(run, ids[one.id], began)
            elif one.id in self._left_out:
                self._leave_out(run, ids[one.id], self._left_out[one.id])
            elif one.id < self._papers.job:
                self._is_over(ids[one.id], one, self._still_there.get(one.name))

    def _add(self, run: RunRecord, one: Planned, ids: Mapping[int, int]) -> int:
        attach = tuple(
            replace(attach, job_id=ids[attach.job_id])
            for attach in one.spec.attach
            if attach.job_id in ids
        )
        added = self._store.add_job(
            run_id=run.id,
            kind=one.spec.kind,
            name=one.name,
            spec=spec.job_to_json(self._cautious(replace(one.spec, attach=attach), one)),
            offer=spec.offer_to_json(one.offer),
            backend=self._where(one),
        )
        return added.id

    def _cautious(self, job: JobSpec, one: Planned) -> JobSpec:
        """What ran beside an earlier job may be on the one machine that has that job's results.

        They are not known here, so the machine is not destroyed: it sleeps, and costs its disk.
        """
        shared = one.id == self._papers.job and job.attach and not one.offer.ends
        if not shared or job.on_finish is OnFinish.KEEP:
            return job
        return replace(job, on_finish=OnFinish.PAUSE)

    def _where(self, one: Planned) -> str:
        """A run that is known here may have begun on another backend than this job is on."""
        same = one.backend.partition(":")[0] == self._backend.name
        return one.backend if same else self._backend.name

    def _take_over(self, run: RunRecord, job_id: int, began: datetime) -> None:
        self._store.mark_intent(job_id)
        self._store.save_lease(job_id, self._lease)
        self._store.mark_launched(job_id, launched_at=began)
        where = self._backend.name
        text = f"{self._papers.mine.spec.kind} was found at {where}, and is finished from here"
        self._store.say(run.id, "adopted", text, job_id=job_id, data={})

    def _leave_out(self, run: RunRecord, job_id: int, why: str) -> None:
        self._store.mark_ended(job_id, Phase.STOPPED, exit_code=None, reason=why, cost=None)
        self._store.mark_closed(job_id, None)
        code = Refused.exit_code
        self._store.say(run.id, "error", why, job_id=job_id, data={"exit_code": code})

    def _is_over(self, job_id: int, one: Planned, still_there: Lease | None) -> None:
        """It ended before this job began; what it left is where the run was begun, or comes home.

        The first computer may have fetched and checked it long ago: twice does no harm.
        """
        phase = one.phase if one.phase.ended else Phase.STOPPED
        why = "" if still_there else "its results are on the computer that began the run"
        if still_there is not None:
            self._store.mark_intent(job_id)
            self._store.save_lease(job_id, still_there)
            self._store.mark_launched(job_id, launched_at=still_there.created_at)
        self._store.mark_ended(job_id, phase, exit_code=one.exit_code, reason=why, cost=None)
        if still_there is None:
            self._store.mark_closed(job_id, None)
