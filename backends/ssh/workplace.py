"""A machine's workplace: a folder of run directories, reached by ssh.

It does what `backends.local` does on its own disk: lays a job out, starts its runner, looks at it,
ends it. Every call is one or two round trips, may be repeated after a break, and tells the
machine's watchdog that somebody is there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from backends import plan, rundir, runner, team
from backends.errors import Lost, MayStillBill, NotLaunched, Refused
from backends.job import Job
from backends.layout import FOLDERS, Layout, layout
from backends.lease import Signal
from backends.protocol import Progress
from backends.ssh import programs, sync
from backends.ssh.caching import Caches
from backends.ssh.errors import SshError
from backends.ssh.host import Host
from backends.ssh.programs import Answer, FarError
from backends.ssh.sync import Moved

_SOON = timedelta(minutes=1)
_LONG = timedelta(minutes=10)
_ENDING = timedelta(minutes=3)
_TOUCH = timedelta(seconds=20)
_PRESENCE_S = 10.0
_BUSY_S = 0.5


@dataclass(frozen=True)
class Run:
    """A run directory in few words.

    phase     of its state; "absent" when nothing was started in it
    alive     its runner holds its lock
    leftover  the runner is gone and a step of it still runs
    laid      another computer is laying it out
    """

    phase: str
    alive: bool
    leftover: bool
    laid: bool = False

    @property
    def works(self) -> bool:
        """Whether anything of it still runs, or is about to."""
        return self.alive or self.leftover or self.laid


@dataclass(frozen=True)
class Seen:
    """A look at a job.

    state     the runner's, checked against its lock; None before it has written one
    there     the run directory is there
    others    the other run directories of this machine, by their jobs' names
    """

    state: Mapping[str, Any] | None
    alive: bool
    leftover: bool
    there: bool = True
    others: Mapping[str, Run] = field(default_factory=dict)


class Workplace:
    """The run directories below `root`.

    cache_root  a disk that outlives the machine or is shared by several; `root` if not given
    by          the computer that asks: two may finish the same run, and want its next job at once
    earlier     the root below which the jobs lie that others build on; `root` if not given
    All methods raise SshError when the machine cannot be reached, besides what they name.
    """

    def __init__(
        self,
        host: Host,
        root: PurePosixPath,
        *,
        cache_root: PurePosixPath | None = None,
        by: str = "-",
        earlier: PurePosixPath | None = None,
    ) -> None:
        self.host = host
        self.root = root
        self._by = by
        self._earlier = (earlier or root) / "runs"
        self._caches = Caches(host, root, (cache_root or root) / "caches")

    def home(self, job: str) -> PurePosixPath:
        """The run directory of the job of that name, whether it is there or not."""
        return self.root / "runs" / job

    # ── launching ─────────────────────────────────────────────────────────────────────────────

    def lay(self, job: Job, *, told: Progress) -> Moved:
        """Put everything the job was given into its run directory; what was sent.

        Done again after a break it sends only what is missing, and takes out what this job does
        not have. A job that was started is left as it is. On one computer one at a time lays out a
        job: the caller sees to that; while another computer does, this waits.
        Raises Refused for what cannot be, for a file that has changed, for files of an earlier job
        that are not there, and where there is no room; NotLaunched for what the machine cannot do.
        """
        found = layout(job)
        with _launching(), self._present(job.name):
            moved = Moved(0, 0)
            finished = False
            while not finished:
                missing = self._caches.missing(job.caches)
                if not self._prepared(job, found, missing, told):
                    return Moved(0, 0)
                moved += sync.upload(self.host, self.home(job.name), found.files, told=told)
                for cache in missing:
                    moved += self._caches.fill(cache, told=told)
                # Not when this computer slept meanwhile, and another one has taken over.
                finished = self._finish(job, found)
        return moved

    def _prepared(self, job: Job, found: Layout, missing: Sequence[Any], told: Progress) -> bool:
        """False when the job was started already. Raises Refused."""
        while (answer := self._prepare(job, found, missing)).get("busy"):
            told("waiting: another computer lays the job out")
            time.sleep(_BUSY_S)
        if answer["started"]:
            return False
        if answer["gone"]:
            raise Refused(
                f"the files of the earlier job {PurePosixPath(answer['gone'][0]).name!r} are not "
                "on this machine",
                hint="run the earlier job again",
            )
        if short := answer["short"]:
            raise Refused(
                f"the job's files take {short['needed']} bytes, and the disk of {short['place']} "
                f"on the machine has {short['free']} free",
                hint="take a machine with a larger disk",
            )
        return True

    def _prepare(self, job: Job, found: Layout, missing: Sequence[Any]) -> Answer:
        return self._ask(
            "laying",
            "prepare",
            job.name,
            files=[[str(file.at), file.size_bytes] for file in found.files],
            links=found.links,
            begun=str(sync.state_folder(self.home(job.name))),
            folders=[str(folder) for folder in FOLDERS],
            attached=[str(self._earlier / name) for _, name in found.attached],
            missing=[[str(self._caches.folder(c)), c.tree.size_bytes] for c in missing],
            reserve=job.plan.disk_reserve_bytes,
        )

    def _finish(self, job: Job, found: Layout) -> bool:
        """False when another computer lays the job out by now."""
        links = [[str(at), str(self._earlier / name)] for at, name in found.attached]
        links += [[str(at), str(self._caches.tree(cache))] for at, cache in found.caches]
        document = plan.document(
            job.plan, job=job.name, outputs=job.outputs, deadline=job.deadline, nodes=job.nodes
        )
        small = {
            str(rundir.PLAN): json.dumps(document, indent=1).encode(),
            str(rundir.RUNNER): _runner(),
        }
        if job.nodes > 1:
            small[str(rundir.TEAM)] = Path(team.__file__).read_bytes()
        write = {name: base64.b64encode(content).decode() for name, content in small.items()}
        answer = self._ask("laying", "finish", job.name, links=links, write=write)
        if "busy" in answer:
            return False
        if "taken" in answer:
            raise Refused(f"two inputs of the job want the same place: {answer['taken']}")
        return True

    def start(
        self, job: Job, env: Mapping[str, str], *, note: Mapping[str, str] | None = None
    ) -> None:
        """Start the job's runner; returns once it holds its lock. One that was started is left.

        Its variables are the machine's own (less what is a secret by its name), the job's, `env`,
        the job's secrets, the later over the earlier. They travel over the connection's standard
        input: they are in no argument and in no file. The names of the machine's own are noted in
        the run directory, in `place.json`, and with them `note`.
        Raises NotLaunched with the runner's own words.
        """
        given = {**job.env, **env, **job.secrets}
        with _launching():
            answer = self._ask("place", "start", job.name, env=given, note=dict(note or {}))
        if "state" not in answer:
            words = answer.get("refused", "it was not laid out")
            raise NotLaunched(f"the job's runner did not start: {words}")

    def give(
        self,
        job: Job,
        env: Mapping[str, str],
        *,
        note: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> tuple[str, ...]:
        """Leave what `start` would start the runner with; the command that takes it, once.

        For a machine whose jobs something else starts. Until then the variables lie in a file that
        only its owner reads, outside the run directory.

        again  the command may be given again, elsewhere perhaps, until the job has its verdict: it
               goes on from where it was. The file stays until then, or until `forget_given`.
        Raises NotLaunched when the job was not laid out.
        """
        given = {**job.env, **env, **job.secrets}
        begin = Path(__file__).with_name("begin.py").read_text("ascii")
        with _launching():
            answer = self._ask(
                "place", "give", job.name, env=given, note=dict(note or {}), begin=begin
            )
        if "begin" not in answer:
            raise NotLaunched("the job's runner did not start: it was not laid out")
        home = self.home(job.name)
        given_at = str(home.with_name(f".{job.name}.given"))
        more = ("--again",) if again else ()
        return (str(answer["python"]), "-I", str(answer["begin"]), given_at, str(home), *more)

    def forget_given(self, job: str) -> None:
        """Remove what `give` has left, if nobody has taken it. Raises FarError."""
        self._ask("place", "forget_given", job)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def status(self, job: str) -> Seen:
        """How a job stands, and in few words the others. One round trip. Raises FarError."""
        answer = self._ask("place", "status", job)
        runs = _runs(answer)
        return Seen(
            answer["state"],
            answer["alive"],
            answer["leftover"],
            answer["there"],
            {name: run for name, run in runs.items() if name != job},
        )

    def jobs(self) -> dict[str, Run]:
        """Every run directory there, by its job's name. One round trip. Raises FarError."""
        return _runs(self._ask("place", "jobs", ""))

    # ── asking, ending ────────────────────────────────────────────────────────────────────────

    def signal(self, job: str, what: Signal, grace: timedelta) -> None:
        """Ask the job to end within `grace`, or for a checkpoint; returns when it has been told.

        Of a job whose runner is gone, what it left is ended here. Raises FarError.
        """
        if what is Signal.CHECKPOINT:
            self._ask("place", "checkpoint", job)
            return
        self._ask("place", "stop", job, grace_s=grace.total_seconds(), timeout=grace + _SOON)

    def end(self, job: str) -> None:
        """End whatever works in a run directory, now, and be sure of it.

        Raises MayStillBill when something does not die, or the machine cannot tell.
        """
        try:
            seen = self._ask("place", "end", job, timeout=_ENDING)
        except FarError as error:
            raise MayStillBill(
                f"{job} may still run on its machine: {error.message}", hint="end the machine"
            ) from error
        if seen["alive"] or seen["leftover"]:
            raise MayStillBill(
                f"a process of {job} does not die on its machine",
                hint="it may hang in the kernel: end the machine",
            )

    def undo(self, job: str) -> None:
        """Take away what a launch of this computer left; what another one lays out stays.

        Raises FarError.
        """
        begun = str(sync.state_folder(self.home(job)))
        self._ask("place", "undo", job, begun=begun, timeout=_LONG)

    def remove(self, job: str) -> None:
        """Take a run directory away; again and again is fine.

        Raises Refused while the job runs, FarError.
        """
        begun = str(sync.state_folder(self.home(job)))
        if self._ask("place", "remove", job, begun=begun, timeout=_LONG).get("lives"):
            raise Refused(f"{job} still runs", hint="end it first: ftlaunch stop")

    # ── files ─────────────────────────────────────────────────────────────────────────────────

    def read(
        self, job: str, path: PurePosixPath, *, offset: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """See `Backend.read`."""
        return sync.read(self.host, self.home(job), path, offset=offset, follow=follow)

    def listing(self, job: str) -> dict[PurePosixPath, int]:
        """See `Backend.listing`."""
        return sync.listing(self.host, self.home(job))

    def fetch(
        self, job: str, paths: Sequence[PurePosixPath], into: Path, *, told: Progress
    ) -> Moved:
        """See `Backend.fetch`; held to the digests of the job's manifest, where there is one."""
        with self._present(job):
            return sync.download(
                self.host, self.home(job), paths, into, sha256=self._promised(job), told=told
            )

    def _promised(self, job: str) -> dict[PurePosixPath, str]:
        try:
            content = b"".join(self.read(job, rundir.MANIFEST))
        except Lost:
            return {}
        manifest = rundir.parse_manifest(content)
        return {} if manifest is None else {file.path: file.sha256 for file in manifest.files}

    # ── the connection ────────────────────────────────────────────────────────────────────────

    def _ask(
        self, program: str, command: str, job: str, *, timeout: timedelta = _SOON, **more: Any
    ) -> Answer:
        home = str(self.home(job))
        request = {"root": str(self.root), "job": job, "home": home, "by": self._by, **more}
        answer = programs.ask(self.host, program, [command], request, timeout=timeout)
        if answer.get("needs") == "runner":  # the job has removed its own
            request["runner"] = _runner().decode()
            answer = programs.ask(self.host, program, [command], request, timeout=timeout)
        return answer

    @contextlib.contextmanager
    def _present(self, job: str) -> Iterator[None]:
        """Tell the machine now and then that somebody is there for a job, while files move."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(_PRESENCE_S):
                with contextlib.suppress(SshError, FarError):
                    self._ask("place", "touch", job, timeout=_TOUCH)

        teller = threading.Thread(target=tell, name="ssh presence", daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()


@contextlib.contextmanager
def _launching() -> Iterator[None]:
    """What the machine could not do while a job was launched means that nothing runs."""
    try:
        yield
    except FarError as error:
        raise NotLaunched(
            f"the machine cannot run the job: {error.message}", hint=error.hint
        ) from error


def _runner() -> bytes:
    return Path(runner.__file__).read_bytes()


def _runs(answer: Answer) -> dict[str, Run]:
    return {
        name: Run(found["phase"], found["alive"], found["leftover"], found.get("laid", False))
        for name, found in answer["jobs"].items()
    }
