"""Backends that each break one promise, and keep the others: the suite must find every one out.

Each wraps the local backend. `BROKEN` says which case has to fail for which of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends.errors import Lost, Unreachable
from backends.job import Attached, Files, Job, LocalTree
from backends.lease import Finding, Keep, Lease, Observation, Phase, Signal
from backends.local import Local
from backends.offer import Money, Need, Offer
from backends.plan import Plan
from backends.protocol import Options, Progress

Told = Callable[[Lease], None]


class CheckRaises(Local):
    def check(self) -> Sequence[Finding]:
        if not self._options.state_dir.is_dir():
            raise FileNotFoundError(self._options.state_dir)
        return super().check()


class AlwaysOffers(Local):
    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        return super().offers(Need(), live=live)


class LaunchesLater(Local):
    """Returns before the job could go on alone."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        come = threading.Event()
        got: list[Lease] = []

        def told(lease: Lease) -> None:
            got.append(lease)
            on_lease(lease)
            come.set()
            threading.Event().wait(1)

        launch = super().launch
        arguments = {"on_lease": told, "progress": progress}
        threading.Thread(target=launch, args=(job, offer), kwargs=arguments).start()
        come.wait()
        return got[0]


class LaunchesTwice(Local):
    """Knows only the names that this object has launched."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        mine: dict[str, Job] = self.__dict__.setdefault("mine", {})
        if job.name not in mine and self._shelf.record(job.name):
            job = replace(job, name=f"{job.name}-2")
        mine[job.name] = job
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


class TellsTheLeaseLast(Local):
    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        lease = super().launch(job, offer, on_lease=lambda _: None, progress=progress)
        on_lease(lease)
        return lease


class KnowsOnlyItsOwn(Local):
    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        lease = super().launch(job, offer, on_lease=on_lease, progress=progress)
        self.__dict__.setdefault("mine", set()).add(lease.id)
        return lease

    def leases(self) -> Sequence[Lease]:
        mine = self.__dict__.get("mine", set())
        return [lease for lease in super().leases() if lease.id in mine]


class ListsTheDead(Local):
    def leases(self) -> Sequence[Lease]:
        return [record.lease() for record in self._shelf.records()]


class TakesAnyInput(Local):
    """Sends what is there now, not what was planned."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        trees = [item for item in job.inputs if isinstance(item, LocalTree)]
        files = [file for tree in trees for file in tree.files if file.here.is_file()]
        now = [replace(file, sha256=_sha256(file.here)) for file in files]
        job = replace(job, inputs=(LocalTree(tuple(now)),))
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


class RaisesItsOwn(Local):
    """Lets a vendor's error through."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        if job.nodes > 1:
            raise ValueError("InstanceTypeNotSupported")
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


class WritesTheSecret(Local):
    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        note = self._options.state_dir / f"{job.name}.env"
        note.write_text("\n".join(job.secrets.values()))
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


class ShowsTheSecret(Local):
    """Passes it as an option, for everybody who types `ps` to see."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        step = job.plan.steps[0]
        shown = tuple(f"--{name}={value}" for name, value in job.secrets.items())
        plan = replace(job.plan, steps=(replace(step, argv=(*step.argv, *shown)),))
        return super().launch(replace(job, plan=plan), offer, on_lease=on_lease, progress=progress)


class UsesAShell(Local):
    """Joins a command with blanks, and splits it again."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        step = job.plan.steps[0]
        program, arguments = step.argv[:5], [a for a in step.argv[5:] if isinstance(a, str)]
        broken = replace(step, argv=(*program, *" ".join(arguments).split()))
        plan: Plan = replace(job.plan, steps=(broken,))
        return super().launch(replace(job, plan=plan), offer, on_lease=on_lease, progress=progress)


class UploadsAgain(Local):
    """Copies what an earlier job left, where it could have pointed to it."""

    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        lease = super().launch(job, offer, on_lease=on_lease, progress=progress)
        for item in job.inputs:
            if isinstance(item, Attached):
                place = self._home(lease.files) / item.at
                shutil.copytree(place, place.with_name("copy"), symlinks=True)
        return lease


class IgnoresTheDeadline(Local):
    def launch(self, job: Job, offer: Offer, *, on_lease: Told, progress: Progress) -> Lease:
        job = replace(job, deadline=None)
        return super().launch(job, offer, on_lease=on_lease, progress=progress)


class ChangesItsMind(Local):
    def observe(self, lease: Lease) -> Observation:
        seen = super().observe(lease)
        if not seen.phase.ended:
            return seen
        looks = self._options.state_dir / f"{lease.job}.looked"
        with looks.open("a") as file:
            file.write("x")
        return seen if looks.stat().st_size == 1 else replace(seen, exit_code=0)


class GuessesGone(Local):
    """Takes silence for an end."""

    def observe(self, lease: Lease) -> Observation:
        seen = super().observe(lease)
        return Observation(Phase.LOST) if seen.phase is Phase.UNKNOWN else seen


class HopesForTheDead(Local):
    """Believes the last thing it heard."""

    def observe(self, lease: Lease) -> Observation:
        seen = super().observe(lease)
        return replace(seen, phase=Phase.RUNNING) if seen.phase is Phase.LOST else seen


class CallsItSuccess(Local):
    """Takes an exit for a success, as a scheduler that knows only "done" does."""

    def observe(self, lease: Lease) -> Observation:
        seen = super().observe(lease)
        return replace(seen, phase=Phase.SUCCEEDED, exit_code=0) if seen.phase.ended else seen


class KillsAtOnce(Local):
    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        super().signal(lease, what, grace=timedelta())


class ForgetsCheckpoints(Local):
    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        if what is Signal.STOP:
            super().signal(lease, what, grace=grace)


class StopsForACheckpoint(Local):
    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        del what
        super().signal(lease, Signal.STOP, grace=max(grace, timedelta(minutes=1)))


class MindsTheDead(Local):
    def signal(self, lease: Lease, what: Signal, *, grace: timedelta) -> None:
        if self.observe(lease).phase.ended:
            raise Unreachable("no such process")
        super().signal(lease, what, grace=grace)


class ReadsFromTheStart(Local):
    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        del offset
        return super().read(files, path, offset=0, follow=follow)


class StopsFollowing(Local):
    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        del follow
        return super().read(files, path, offset=offset, follow=False)


class MissingIsEmpty(Local):
    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        try:
            yield from super().read(files, path, offset=offset, follow=follow)
        except Lost:
            return


class ClimbsOut(Local):
    def read(
        self, files: Files, path: PurePosixPath, *, offset: int, follow: bool
    ) -> Iterator[bytes]:
        if ".." in path.parts or path.is_absolute():
            return iter([(self._home(files) / path).read_bytes()[offset:]])
        return super().read(files, path, offset=offset, follow=follow)


class FetchesHalves(Local):
    """Writes under the file's own name from the first byte on."""

    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        for path in paths:
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb", buffering=0) as file:
                for chunk in self.read(files, path, offset=0, follow=False):
                    for start in range(0, len(chunk), 65_536):
                        if file.write(chunk[start : start + 65_536]) < 1:
                            raise OSError("short write")


class FetchesAgain(FetchesHalves):
    pass


class TrustsTheSize(Local):
    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        sizes = self.listing(files)
        wanted = [
            path
            for path in paths
            if not (into / path).exists() or (into / path).stat().st_size != sizes.get(path)
        ]
        super().fetch(files, wanted, into)


class HandsOutTheOriginal(Local):
    def fetch(self, files: Files, paths: Sequence[PurePosixPath], into: Path) -> None:
        for path in paths:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(self._home(files) / path, into / path)


class ListsWhatIsAttached(Local):
    def listing(self, files: Files) -> Mapping[PurePosixPath, int]:
        home = self._home(files)
        return {
            PurePosixPath(Path(where) / name).relative_to(home): (Path(where) / name).stat().st_size
            for where, _, names in os.walk(home, followlinks=True)
            for name in names
        }


class LosesFiles(Local):
    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        found = super().release(lease, keep=keep)
        shutil.rmtree(self._shelf.home(lease.job) / "output", ignore_errors=True)
        return found


class KeepsEverything(Local):
    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        super().release(lease, keep=Keep.FILES)
        return lease.files if keep is Keep.FILES else None


class LetsItRun(Local):
    """Forgets the lease and leaves the processes."""

    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        del keep
        return lease.files


class ReleasesOnce(Local):
    def release(self, lease: Lease, *, keep: Keep) -> Files | None:
        mark = self._options.state_dir / f"{lease.id}.released"
        if mark.exists():
            raise Unreachable("no such instance")
        found = super().release(lease, keep=keep)
        mark.touch()
        return found


class DiscardsNothing(Local):
    def discard(self, files: Files) -> None:
        del files


class OpensThePortToAll(Local):
    @contextlib.contextmanager
    def tunnel(self, lease: Lease, port: int) -> Iterator[object]:  # type: ignore[override]
        with super().tunnel(lease, port) as address:
            relay = subprocess.Popen([sys.executable, "-c", _RELAY], stdout=subprocess.PIPE)
            assert relay.stdout is not None
            try:
                yield replace(address, port=int(relay.stdout.readline()))
            finally:
                relay.kill()
                relay.wait()
                relay.stdout.close()


_RELAY = """
import socket
server = socket.create_server(("0.0.0.0", 0))
print(server.getsockname()[1], flush=True)
while True:
    server.accept()
"""


def _sha256(path: Path) -> str:
    from backends.local.copying import digest_of

    return digest_of(path)


class CleansWhatIsUsed(Local):
    """Thinks that what is kept needs no caches."""

    def clean(self) -> Sequence[Finding]:
        shutil.rmtree(self._shelf.root / "caches", ignore_errors=True)
        return []


class BillsOnlyItsOwn(Local):
    def billed(self, lease: Lease) -> Money | None:
        if self._shelf.record(lease.job) is None:
            raise Lost(f"nobody knows {lease.job}")
        return None


class TakesAnySecret(Local):
    def launch(
        self, job: Job, offer: Offer, *, on_lease: Callable[[Lease], None], progress: Progress
    ) -> Lease:
        bare = replace(job, kept_secrets=())
        return super().launch(bare, offer, on_lease=on_lease, progress=progress)


BROKEN: dict[type[Local], str] = {
    BillsOnlyItsOwn: "test_billed",
    TakesAnySecret: "test_a_secret_that_nobody_keeps",
    CleansWhatIsUsed: "test_clean",
    CheckRaises: "test_check_raises_nothing",
    AlwaysOffers: "test_offers_nothing_that_fits",
    LaunchesLater: "test_launcher_dies",
    LaunchesTwice: "test_same_name_is_same_lease",
    TellsTheLeaseLast: "test_lease_is_told_before_work",
    KnowsOnlyItsOwn: "test_leases_are_the_living",
    ListsTheDead: "test_leases_are_the_living",
    TakesAnyInput: "test_input_is_not_what_was_planned[changed]",
    RaisesItsOwn: "test_more_nodes_than_it_has",
    WritesTheSecret: "test_secret_is_nowhere_else",
    ShowsTheSecret: "test_secret_is_nowhere_else",
    UsesAShell: "test_commands_are_exact",
    UploadsAgain: "test_attached_costs_no_upload",
    IgnoresTheDeadline: "test_deadline",
    ChangesItsMind: "test_verdict_stays",
    GuessesGone: "test_silence_is_not_an_end",
    HopesForTheDead: "test_lost",
    CallsItSuccess: "test_killed_step",
    KillsAtOnce: "test_stop_keeps_a_checkpoint",
    ForgetsCheckpoints: "test_checkpoint_and_go_on",
    StopsForACheckpoint: "test_checkpoint_and_go_on",
    MindsTheDead: "test_signal_after_the_end",
    ReadsFromTheStart: "test_read_from_an_offset",
    StopsFollowing: "test_follow",
    MissingIsEmpty: "test_read_what_is_not_there[output/missing-False]",
    ClimbsOut: "test_read_stays_inside[/etc/passwd]",
    FetchesHalves: "test_fetch_cut_short",
    FetchesAgain: "test_fetch_again",
    TrustsTheSize: "test_fetch_over_another",
    HandsOutTheOriginal: "test_what_was_fetched_is_ours",
    ListsWhatIsAttached: "test_listing_leaves_out_what_is_attached",
    LosesFiles: "test_release_keeps_files",
    KeepsEverything: "test_release_keeps_nothing",
    LetsItRun: "test_release_of_a_running_job",
    ReleasesOnce: "test_release_again[files]",
    DiscardsNothing: "test_discard",
    OpensThePortToAll: "test_tunnel_is_for_this_machine",
}


def factory(options: Options) -> Local:
    """The broken backend that `options.detail` names."""
    kinds = {kind.__name__: kind for kind in BROKEN}
    return kinds[options.detail](options)
