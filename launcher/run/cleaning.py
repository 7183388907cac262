"""What `check --clean` does at a backend: it cleans up, and then what may still bill is named."""

from __future__ import annotations

from backends.errors import FtlaunchError
from backends.lease import Finding, Keep, Lease
from backends.protocol import Backend
from launcher.on_finish import some_price
from launcher.run.remaining import remainders
from launcher.store import Store


def clean(store: Store, backend: Backend) -> list[Finding]:
    """Remove what no job needs, and name what bills: what runs keep, and what none here minds.

    A lease of a job that is closed here is let go of once more, and its files stay. Those of open
    jobs are minded by their conductor; those of other computers are theirs.
    """
    found = [*backend.clean(), *_kept(store, backend)]
    bills = some_price(backend).amount > 0
    try:
        leases = backend.leases()
    except FtlaunchError as error:
        found.append(Finding("what bills", False, error.message, error.hint, bills=bills))
        return found
    known, closed = store.job_names(), store.closed_job_names()
    for lease in leases:
        if lease.job in closed:
            found.append(_again(backend, lease))
        elif lease.job not in known:
            hint = "finish it from here with: ftlaunch ps --adopt"
            text = f"{lease.job} is of no run of this computer, and goes on"
            found.append(Finding("machine", False, text, hint, bills=bills))
    return found


def _kept(store: Store, backend: Backend) -> list[Finding]:
    """Kept results are nobody's litter, but they are on the bill."""
    left = remainders(store, backend.name)
    return [Finding("kept", True, f"{one.sentence()}; {one.hint()}") for one in left]


def _again(backend: Backend, lease: Lease) -> Finding:
    try:
        backend.release(lease, keep=Keep.FILES)
    except FtlaunchError as error:
        return Finding("machine", False, error.message, error.hint, bills=True)
    return Finding("machine", True, f"what {lease.job} ran on is let go of, once more")
