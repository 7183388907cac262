"""The contract between `ftlaunch` and a place where jobs run.

A provider is asked to do one thing: run this folder until it ends. How the machine is held is the
backend's own affair. Every promise below is a case in `backends.testing`, which names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from backends.job import Files, Job
from backends.lease import Address, Finding, Keep, Lease, Observation, Signal
from backends.offer import Money, Need, Offer


class Progress(Protocol):
    """Told what a slow call is doing; it never raises."""

    def __call__(self, what: str, *, done: int | None = None, total: int | None = None) -> None:
        """`what` is a short phrase; `done` of `total` are bytes, where they are known."""


def silent(what: str, *, done: int | None = None, total: int | None = None) -> None:
    """A `Progress` that says nothing."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Options:
    """What a backend's factory is given.

    detail      what followed the name on the command line: `aws` of `skypilot:aws`; may be empty
    state_dir   a folder of this backend's own, for what must survive the process; made on demand
    clock       the time now, with a time zone; tests put a faster one here
    environ     the caller's environment variables, for credentials
    """

    state_dir: Path
    detail: str = ""
    clock: Callable[[], datetime] = _now
    environ: Mapping[str, str] = field(default_factory=dict)


Factory = Callable[[Options], "Backend"]
"""What an entry point in the group `ftlaunch.backends` names."""


@runtime_checkable
class Backend(Protocol):
    """A place where jobs run."""

    name: str
    """What the user types after `--backend`."""

    def check(self) -> Sequence[Finding]:
        """Whether this backend can be used: SDK, credentials, reachability.

        Spends nothing, starts nothing, raises nothing: what is wrong is a finding with a hint.
        """

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        """What could be rented for `need`, cheapest first; empty when nothing fits.

        With `live=False` no network is touched, and prices are dated ones that say their source.
        """

    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        """Start the job, detached.

        A return guarantees: the inputs are laid out with the hashes they were given, the runner
        holds its lock, and the job goes on if this process dies now.
        `on_lease` is called the moment an id exists, before anything else can fail.
        Launching a name again returns the lease it has, whether the job runs or has ended: no job
        is run twice. A launch that was cut short is done again under the same name. A name that
        was released, and whose files are kept, is NotLaunched.

        Raises NotLaunched (nothing runs, nothing bills), Unsure (it may), or Refused for a job that
        this backend cannot hold (Unsupported), or that asks for a kept secret which is not there.
        Those, and nothing else. `billed` of the error says what a machine that was made for it, and
        is gone again, has cost.
        """

    def leases(self) -> Sequence[Lease]:
        """Everything of ours that may still bill, whoever started it.

        For a backend that bills nothing: every job that is still alive.
        """

    def observe(self, lease: Lease) -> Observation:
        """How the job stands, now.

        A verdict once given does not change. `UNKNOWN` when the provider does not answer: never a
        guess. `LOST` only when the backend is sure that no verdict can come any more: the job's
        supervisor is gone, or the lease is none of ours. What it left running is still among the
        leases, and a release ends it. Raises nothing.
        """

    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        """Ask the running job for something; returns when the request has been taken in.

        STOP: end within `grace`, keeping what can be kept (a complete checkpoint, if the plan says
        how); a grace of zero ends it now. CHECKPOINT: write one and go on; grace means nothing.
        Asking a job that has ended is not an error.
        """

    def tunnel(self, lease: Lease, port: int) -> AbstractContextManager[Address]:
        """Reach a port the job serves on its own loopback, from this machine only.

        Raises Lost when the job has ended. Whether anybody listens there is for the caller to see.
        """

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        """End the lease: whatever still runs is ended, whatever bills stops.

        Returns when the provider confirms it; again and again is fine. With Keep.FILES the run
        directory stays readable and the Files are returned; with Keep.NOTHING it is gone, also
        when it was kept at first. Of a lease that is not there nothing is kept: None.
        Raises MayStillBill when the provider does not confirm.
        """

    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        """The bytes of one file of the run directory, from `offset` on.

        Without `follow`, ends at the file's present end. With it, goes on as the file grows, yields
        b"" at least once a second while nothing new is there, and never ends by itself.
        An offset past the end yields nothing. Raises Lost when there is no such file; a path that
        leaves the run directory is none.
        """

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        """Copy files of the run directory to `into`, keeping their relative paths.

        A file that is already there with the same content is not sent again, one that was begun is
        continued; each appears under its name only when whole. Raises Lost when a file is missing.
        """

    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        """Every regular file the job itself made or was given, with its size in bytes.

        Inputs attached from other jobs and caches are not listed. This is how the results of a job
        that was killed before it could write a manifest are found. Raises Lost when all is gone.
        """

    def billed(self, lease: Lease) -> Money | None:
        """What the provider's own bill says of a lease, so far as it says anything; else None.

        A bill comes late, and not to every account: `Observation.cost` is what was measured.
        Raises nothing.
        """

    def discard(self, files: Files) -> None:
        """Remove a kept run directory; again and again is fine. Refused while its job runs."""

    def clean(self) -> Sequence[Finding]:
        """Remove what this backend set up for itself and no job needs: caches, keys, old notes.

        One finding for each thing that was removed or could not be. What runs, and what is kept,
        stays as it is. Again and again is fine; raises nothing.
        """
