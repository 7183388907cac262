"""What is said when a run has ended: why, what it cost, what still bills, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence

import click

from backends.lease import Phase
from launcher.on_finish import bills
from launcher.run import spent
from launcher.run.remaining import Remainder, still_billed
from launcher.run.spec import offer_from_json
from launcher.store import JobRecord, RunRecord, Store


def tell_end(store: Store, run: RunRecord) -> None:
    """Say how an ended run stands. Nothing is said while a job of it is open: it has not ended."""
    jobs = store.jobs(run.id)
    if any(job.open for job in jobs):
        return
    for line in [*_money(run, jobs), *_next(run, jobs)]:
        click.echo(line)


def reason(jobs: Sequence[JobRecord]) -> str:
    """Why a run ended as it did: the last job that did not succeed, or nothing to say."""
    bad = [job for job in jobs if job.ended_at is not None and job.phase is not Phase.SUCCEEDED]
    if not bad:
        return ""
    last = bad[-1]
    return f"{last.kind} {last.phase}" + (f": {last.reason}" if last.reason else "")


def _money(run: RunRecord, jobs: Sequence[JobRecord]) -> list[str]:
    # What was refused may have had a machine for a while.
    had = [job for job in jobs if job.launched_at or job.cost]
    rented = [job for job in had if bills(offer_from_json(job.offer))]
    if not rented:
        return []
    costs = spent.total(job.cost for job in rented)
    so_far = f"; {run.name} has cost {costs} so far" if costs else ""
    if any(job.held for job in jobs):
        return [f"a machine is kept and bills{so_far}"]
    said = [f"nothing runs any more{so_far}"]
    for backend in dict.fromkeys(job.backend for job in jobs if still_billed(job)):
        left = Remainder(run, backend)
        said.append(f"{left.sentence()}; {left.hint()}")
    return said


def _next(run: RunRecord, jobs: Sequence[JobRecord]) -> list[str]:
    trained = [job for job in jobs if job.kind == "train"]
    if not trained or trained[-1].phase is not Phase.SUCCEEDED or trained[-1].pulled_at is None:
        return []
    return [f'ask it something:  ftlaunch inference {run.name} -p "…"']
