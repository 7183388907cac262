"""What a case has left: machines, artifacts, words, money."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backends.lease import Phase
from jarvis_faults.journeys import Journey
from launcher.on_finish import OnFinish
from launcher.run.follow import verdict
from launcher.store import JobRecord

_ASLEEP = {"Paused", "Failed"}
"""What bills no GPU, and may hold files that are wanted."""


@dataclass
class Outcome:
    """leaked     machines that are there and should not be
    lost       jobs whose results should be here and are not, and results that are damaged
    said       what was said, or written, that must not be: a traceback, a secret
    undone     other promises that were not kept
    after_s    seconds of this machine's clock that a GPU was billed after the last needed byte
               was here and verified; None when nothing was to be had
    ended      `done`, `refused` (it never began), or how else the jobs ended
    """

    leaked: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    after_s: float | None = None
    billed_s: float = 0.0
    ended: str = ""

    @property
    def problems(self) -> list[str]:
        return [*self.leaked, *self.lost, *self.said, *self.undone]


def of(journey: Journey) -> Outcome:
    """Look at everything, with the fault still as it is."""
    found = Outcome()
    jobs = journey.store.jobs(journey.run.id) if not _removed(journey) else []
    found.leaked = list(_left(journey, jobs))
    found.said = [*_bad_words(journey), *_secrets(journey)]
    found.undone = [f"{job.kind} is still open: {job.phase}" for job in jobs if job.open]
    for job in jobs:
        _job(journey, job, found)
    _money(journey, found)
    if _removed(journey):
        found.ended = "removed"
    elif all(job.phase is Phase.SUCCEEDED for job in jobs):
        found.ended = "done"
    else:
        found.ended = ", ".join(
            "refused" if job.launched_at is None else str(job.phase)
            for job in jobs
            if job.phase is not Phase.SUCCEEDED
        )
    case = journey.case
    if not journey.struck():
        found.undone.append("the fault met nothing")
    if case is not None and case.harmless and "refused" in found.ended:
        found.undone.append("it was given up, where it could have gone on")
    return found


def _removed(journey: Journey) -> bool:
    return not any(run.id == journey.run.id for run in journey.store.runs())


def _left(journey: Journey, jobs: Sequence[JobRecord]) -> Iterator[str]:
    wanted = journey.wishes is OnFinish.PAUSE and any(job.files is not None for job in jobs)
    for machine in journey._machines():
        if machine["gone"] is not None or (machine["status"] in _ASLEEP and wanted):
            continue
        yield f"machine {machine['id']} {machine['name']} is {machine['status']}"
    ours = {machine["id"] for machine in journey._machines()}
    for bill in journey.world.cloud.meter.billing("gpu"):
        if bill.machine in ours:
            yield f"machine {bill.machine} {bill.name} bills a GPU"


def _job(journey: Journey, job: JobRecord, found: Outcome) -> None:
    if job.launched_at is None:
        _refused(journey, job, found)
        return
    if job.pulled_at is None:
        found.lost.append(f"{job.kind} {job.phase}, and its results are not here")
        return
    began = journey.out / "output" / f"starts-{job.kind}"
    if not began.exists() or began.read_text() != "started\n":
        found.lost.append(f"{began.name} is not here, or it began twice")
    if job.phase is Phase.SUCCEEDED:
        made = journey.out / "output" / job.kind
        if not made.exists() or made.read_text() != f"made by {job.kind}":
            found.lost.append(f"what {job.kind} made is not here")
    listed = journey.out / "manifests" / f"{job.kind}-{job.id}.json"
    if not listed.exists():
        found.lost.append(f"{listed.name} is not here")
        return
    for row in json.loads(listed.read_text())["files"]:
        path = journey.out / row["path"]
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            found.lost.append(f"{row['path']} is not what the manifest says")


def _refused(journey: Journey, job: JobRecord, found: Outcome) -> None:
    """It never began: that must be said in a sentence, with an exit code of its own."""
    events = journey.store.events(journey.run.id)
    told = [event.text for event in events if event.kind == "error" and event.job_id == job.id]
    if not told:
        found.undone.append(f"{job.kind} did not begin, and nobody was told")
    found.said += [f"no sentence: {text!r}" for text in told if "\n" in text or len(text) > 400]
    if job.ended_at is not None and verdict(journey.store, journey.run, job_id=job.id) == 0:
        found.undone.append(f"{job.kind} did not begin, and the exit code is 0")


def _bad_words(journey: Journey) -> Iterator[str]:
    logs = [journey.log, *journey.state.glob("runs/*/conductor.log")]
    for path in logs:
        if path.exists() and "Traceback" in (text := path.read_text()):
            yield f"{path.name}: {text[text.index('Traceback') :][-600:]}"
    for event in journey.store.events(journey.run.id) if not _removed(journey) else ():
        if "Traceback" in event.text or "ftlaunch itself failed" in event.text:
            yield event.text


def _secrets(journey: Journey) -> Iterator[str]:
    yield from (f"the account's key is in {where}" for where in journey.secrets_seen)
    key = journey.world.cloud.key.encode()
    for path in sorted(journey.folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and key in _content(path):
            yield f"the account's key is in {path.relative_to(journey.folder)}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _money(journey: Journey, found: Outcome) -> None:
    cloud = journey.world.cloud
    ours = {machine["id"] for machine in journey._machines()}
    meter = cloud.meter
    meter.spans = [span for span in meter.spans if span.machine in ours]
    found.billed_s = meter.after(0.0) / cloud.speed
    here = [
        row["at"]
        for row in journey.rows()
        if row["what"] == "step" and row["name"] == "mark_pulled"
    ]
    if here:
        found.after_s = meter.after(cloud.at(here[-1])) / cloud.speed


Try = Callable[..., tuple[Journey, Outcome]]
"""The fixture `attempt`: takes a case (None: no fault), a way and a carelessness."""
