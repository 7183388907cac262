"""A launch, step by step: what is on disk here, what is at Modal, and what a crash leaves of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from backends import plan, rundir, runner, team
from backends.errors import FtlaunchError, Lost, MayStillBill, NotLaunched, Refused, Unsure
from backends.job import Attached, Files, Job
from backends.layout import Layout, cache_folder, layout
from backends.lease import Lease
from backends.modal import clusters, door, ftlaunch_job
from backends.modal.account import PREFIX, Account, translated
from backends.modal.image import image
from backends.modal.offers import NAME
from backends.modal.records import Note, Records, Stage
from backends.modal.shelf import CACHES, LASTING, LINKS, RUNS, Shelf
from backends.offer import Offer
from backends.protocol import Progress

LONGEST_S = 86400
"""Modal ends an attempt after a day; the next one goes on from the newest checkpoint."""
RETRIES = 10
"""As many as Modal allows."""
_MARGIN_S = 900
_WIND_DOWN_S = 600
"""Of the margin, for the checkpoint that the next attempt begins from."""
NOTICE_S = 20.0
"""Of the 30 seconds that a preempted container has."""
_AGAIN_S = 5.0
_LEAST_S = 10.0  # a loopback provider's day is short, and a runner's work is not quicker there


class Launching:
    """What a launch needs of the backend's parts."""

    def __init__(
        self,
        account: Account,
        records: Records,
        shelf: Shelf,
        *,
        stop: Callable[[str], None],
        adopted: Callable[[str], Note],
        clock: Callable[[], datetime],
        pace: float,
    ) -> None:
        self._account = account
        self._records = records
        self._shelf = shelf
        self._stop = stop
        self._adopted = adopted
        self._clock = clock
        self._pace = pace

    def launch(
        self, job: Job, offer: Offer, on_lease: Callable[[Lease], None], told: Progress
    ) -> Lease:
        """See `Backend.launch`. The caller holds the claim on the job's name."""
        note = self._records.get(job.name)
        if note is not None:
            require_same(note, job)
            if note.stage is Stage.STARTED:
                on_lease(lease_of(note))
                return lease_of(note)
        found = layout(job)
        if note is None and (theirs := self._begun_elsewhere(job)) is not None:
            on_lease(lease_of(theirs))
            return lease_of(theirs)
        self._require_attached(found)
        self._require_secrets(job)
        note = self._noted(job, offer, note)
        lease = lease_of(note)
        try:
            on_lease(lease)
            self._end_another_app(note)
            self._lay(job, found, told)
            note = self._records.save(replace(note, stage=Stage.ASKED, app="", call=""))
            return lease_of(self._begin(note, job, offer, found, told))
        except BaseException as error:
            raise self._undone(note, lease, error) from error

    def _noted(self, job: Job, offer: Offer, before: Note | None) -> Note:
        if before is not None:
            return before
        token = os.urandom(4).hex()
        return self._records.save(
            Note(
                job=job.name,
                lease=f"{job.name}.{token}",
                created_at=self._clock().isoformat(),
                request=request_of(job),
                price=str(offer.price.amount),
            )
        )

    def _begun_elsewhere(self, job: Job) -> Note | None:
        """A job of this name that another computer launched, and that runs: it is not run twice."""
        for app, name in self._account.apps():
            if name == job.name:
                theirs = replace(self._adopted(name), request=request_of(job))
                return self._records.save(replace(theirs, app=theirs.app or app))
        return None

    def _require_attached(self, found: Layout) -> None:
        for _, earlier in found.attached:
            if not self._shelf.exists(earlier):
                raise Refused(
                    f"the files of the earlier job {earlier!r} are no longer at Modal",
                    hint="run the earlier job again",
                )

    def _require_secrets(self, job: Job) -> None:
        for name in job.kept_secrets:
            try:
                with translated():
                    self._kept(name).hydrate(self._account.client)
            except Lost as error:
                raise Refused(
                    f"Modal keeps no secret named {name!r}",
                    hint=f"make it with: modal secret create {name} NAME=VALUE; or name a "
                    "variable of this terminal instead: -s NAME",
                ) from error

    def _kept(self, name: str) -> Any:
        return self._account.sdk.Secret.from_name(name, client=self._account.client)

    def _lay(self, job: Job, found: Layout, told: Progress) -> None:
        document = plan.document(
            job.plan,
            job=job.name,
            outputs=job.outputs,
            deadline=job.deadline,
            nodes=job.nodes,
        )
        small = {
            str(rundir.PLAN): json.dumps(document, indent=1).encode(),
            str(rundir.RUNNER): Path(runner.__file__).read_bytes(),
            LINKS: json.dumps(_links(found)).encode(),
        }
        if job.nodes > 1:
            small[str(rundir.TEAM)] = Path(team.__file__).read_bytes()
        self._shelf.put(job.name, found.files, small, told)
        for _, cache in found.caches:
            self._shelf.fill(cache, told)

    def _end_another_app(self, note: Note) -> None:
        """A launch that was cut short may have left an app whose call nobody knows.

        What it did is not lost: the new one goes on where the Volume says that it was.
        """
        for app, name in self._account.apps():
            if name == note.job:
                self._stop(app)

    def _begin(self, note: Note, job: Job, offer: Offer, found: Layout, told: Progress) -> Note:
        sdk, client = self._account.sdk, self._account.client
        told("asking Modal for a container" if job.nodes == 1 else "asking Modal for a cluster")
        entry, known = _entry(), {}
        if job.nodes > 1:
            entry = clusters.clustered(sdk, entry, job.nodes)
            known = {team.TOKEN: secrets.token_hex(32)}
        with translated():
            app = sdk.App(PREFIX + job.name, tags={"ftlaunch": job.name})
            secret = sdk.Secret.from_dict({**_lasting(job), **job.env, **job.secrets, **known})
            gpus = [gpu for gpu in offer.data.get("gpus", "").split(",") if gpu]
            function = app.function(
                name="job",
                image=image(sdk, job.environment, door=bool(job.ports)),
                gpu=gpus or None,
                cpu=float(offer.cpus) if offer.cpus else None,
                memory=int(offer.memory_gib * 1024) if offer.memory_gib else None,
                ephemeral_disk=offer.disk_gib * 1024 if offer.disk_gib else None,
                timeout=LONGEST_S,
                retries=sdk.Retries(max_retries=RETRIES, initial_delay=_AGAIN_S, max_delay=60.0),
                single_use_containers=True,
                volumes={
                    str(ftlaunch_job.RUNS): self._shelf.volume(RUNS),
                    str(ftlaunch_job.CACHES): self._shelf.volume(CACHES),
                    str(ftlaunch_job.LASTING): self._shelf.volume(LASTING),
                },
                secrets=[*map(self._kept, job.kept_secrets), secret],
            )(entry)
            with app.run(detach=True, client=client):
                note = self._records.save(replace(note, app=app.app_id))
                call = function.spawn(self._request(note, job, found))
                note = replace(note, call=call.object_id, stage=Stage.STARTED)
                self._records.save(note)
        return note

    def _request(self, note: Note, job: Job, found: Layout) -> dict[str, Any]:
        return {
            "job": job.name,
            "app": note.app,
            "nodes": job.nodes,
            "volume": PREFIX + RUNS,
            "lasting": PREFIX + LASTING,
            "control": PREFIX + "control",
            "key": door.public_key(self._records, job.name) if job.ports else "",
            "links": [[at, f"{ftlaunch_job.PLACE}/{where}"] for at, where in _links(found)],
            "attempt_s": (LONGEST_S - _MARGIN_S) / self._pace,
            "wind_down_s": max(_WIND_DOWN_S / self._pace, _LEAST_S),
            "notice_s": NOTICE_S,
            "note": {"lease": note.lease, "created_at": note.created_at, "price": note.price},
        }

    def _undone(self, note: Note, lease: Lease, error: BaseException) -> BaseException:
        """Leave nothing of a launch that failed; what is to be raised."""
        now = self._records.get(note.job) or note
        try:
            if now.stage is not Stage.LAYING:
                for app, name in self._account.apps():
                    if name == note.job:
                        self._stop(app)
            if self._shelf.state(note.job) is None:  # else an earlier try of it came further
                self._shelf.remove(note.job)
        except MayStillBill as doubt:
            told = f"the launch failed, and {doubt.message}"
            return Unsure(told, intent=note.job, lease=lease, hint=doubt.hint)
        except FtlaunchError as doubt:
            if now.stage is not Stage.LAYING:
                told = f"whether {note.job} runs at Modal is not known: {doubt.message}"
                hint = f"look with: modal app list; end it with: modal app stop {PREFIX}{note.job}"
                return Unsure(told, intent=note.job, lease=lease, hint=hint)
        self._records.forget(note.job)
        if isinstance(error, (NotLaunched, Refused, Unsure)) or not isinstance(error, Exception):
            return error
        if isinstance(error, FtlaunchError):
            return NotLaunched(error.message, hint=error.hint)
        return NotLaunched(f"the launch failed: {error}", hint="nothing was left behind")


def _links(found: Layout) -> list[tuple[str, str]]:
    """Where what is not sent is seen, and which volume and folder it is."""
    links = [(str(at), f"{RUNS}/{earlier}") for at, earlier in found.attached]
    return links + [(str(at), f"{CACHES}/{cache_folder(cache)}") for at, cache in found.caches]


def _lasting(job: Job) -> dict[str, str]:
    """Variables that name folders kept for later jobs: a hub's downloads, say."""
    hints = job.environment.hints.get(NAME, {}).get("lasting", "")
    pairs = [hint.partition("=") for hint in hints.split()]
    return {name: str(ftlaunch_job.LASTING / folder) for name, _, folder in pairs}


def _entry() -> Callable[..., Any]:
    """The container's function, as of a module of its own: Modal then mounts that one file."""
    name = "ftlaunch_job"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ftlaunch_job.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    entry: Callable[..., Any] = sys.modules[name].job
    return entry


def require_same(note: Note, job: Job) -> None:
    """Raises NotLaunched when another job has, or had, this name."""
    if note.stage is Stage.RELEASED or note.request != request_of(job):
        raise NotLaunched(
            f"another job named {job.name!r} left its files at Modal",
            hint="give this one another name, or remove the other",
        )


def request_of(job: Job) -> str:
    """A digest of what the job does, without its deadline: a repeated launch has a shorter one."""
    document = plan.document(
        job.plan, job=job.name, outputs=job.outputs, deadline=None, nodes=job.nodes
    )
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def lease_of(note: Note) -> Lease:
    """A job's lease, the same whenever it is asked for."""
    return Lease(
        backend=NAME,
        id=note.lease,
        job=note.job,
        files=files_of(note.job),
        created_at=datetime.fromisoformat(note.created_at),
    )


def files_of(job: str) -> Files:
    """A job's run directory, on the Volume."""
    return Files(backend=NAME, id=job, data={"job": job})


def is_attached_elsewhere(job: Job) -> str | None:
    """The backend that keeps files which this job wants to see, when that is not Modal."""
    for item in job.inputs:
        if isinstance(item, Attached) and item.files.backend != NAME:
            return item.files.backend
    return None
