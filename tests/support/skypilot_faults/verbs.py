"""What the backend's looking verbs say while a call is answered wrongly: the truth, or nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from backends.errors import CredentialsMissing, FtlaunchError, Unreachable
from backends.lease import Keep, Lease, Phase
from backends.offer import Need
from backends.protocol import Options, silent
from backends.skypilot import factory
from backends.skypilot.backend import SkyPilot
from backends.testing import child
from skypilot_faults.cases import Case
from skypilot_faults.journey import GUEST, Outcome
from skypilot_faults.way import Way

_NEED = Need(cpu_only=True, cpus=1, memory_gib=1)
_HOURS_S = 4 * 3600.0


class Verbs:
    """One backend with one living job; each verb is asked by an object that knows nothing yet."""

    def __init__(self, way: Way, state: Path) -> None:
        self.way = way
        self._state = state
        self._lease: Lease | None = None

    def begin(self) -> None:
        """Start the job, a guest."""
        argv = (sys.executable, "-c", f"import time; time.sleep({_HOURS_S})")
        job = child.one_step("fault-looking", argv, deadline_s=_HOURS_S)
        backend = self._backend(f"cluster/{GUEST}")
        (offer,) = backend.offers(Need(), live=True)
        self._lease = backend.launch(job, offer, on_lease=lambda _: None, progress=silent)

    def end(self) -> None:
        """End the job, which leaves nothing."""
        if self._lease is not None:
            self._backend().release(self._lease, keep=Keep.NOTHING)

    def _backend(self, detail: str = "slurm/tiny") -> SkyPilot:
        return factory(Options(self._state, detail=detail, environ=dict(os.environ)))

    def tried(self, case: Case) -> Outcome:
        """Ask while a call goes wrong, and once more when none does."""
        found = Outcome()
        number = None
        if case.how["kind"] == "call":
            number = self.way.arm(case.call, case.how["do"], seconds=case.how.get("seconds", 0.0))
        else:
            self.way.refuse(case.how["seconds"])
        try:
            wrong = self.right(case.phase.at)
            found.ended = "done"
        except (Unreachable, CredentialsMissing) as error:
            wrong = _no_sentence(error)
            found.ended = f"refused {type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - none of these may come out
            wrong = f"{type(error).__name__}: {error}"
            found.ended = f"refused {type(error).__name__}"
        found.undone += [wrong] if wrong else []
        if number is not None and not self.way.hits(number):
            found.undone.append("the fault met nothing")
        self.way.forgive()
        self.way.wait_open()
        if again := self.right(case.phase.at):
            found.lost.append(f"afterwards: {again}")
        return found

    def right(self, verb: str) -> str:
        """What is wrong with what a verb says; empty when it is the truth.

        Raises what the verb raises. `check` and `observe` raise nothing: that they do not know is
        raised as Unreachable here.
        """
        asked: dict[str, Callable[[], str]] = {
            "check": self._check,
            "offers": self._offers,
            "leases": self._leases,
            "observe": self._observe,
        }
        return asked[verb]()

    def _check(self) -> str:
        bad = [one for one in self._backend().check() if not one.ok]
        if bad and bad[0].hint:
            raise Unreachable(bad[0].detail, hint=bad[0].hint)
        return f"no hint: {bad[0].detail}" if bad else ""

    def _offers(self) -> str:
        found = self._backend().offers(_NEED, live=True)
        return "" if found and found[0].price.amount > 0 else f"offers {found}"

    def _leases(self) -> str:
        assert self._lease is not None
        found = [lease.job for lease in self._backend().leases()]
        return "" if found == [self._lease.job] else f"leases of {found}"

    def _observe(self) -> str:
        """Nobody answers at the cluster: SkyPilot is asked what became of it."""
        assert self._lease is not None
        silent_ssh = self.way.arm("ssh", "reset", times=None)
        self.way.cut_ssh()
        try:
            seen = self._backend().observe(self._lease)
        finally:
            self.way.forgive(silent_ssh)
        if seen.phase is Phase.UNKNOWN:
            return "" if seen.reason else "no reason"
        return "" if seen.phase is Phase.RUNNING else f"{seen.phase}: {seen.reason}"


def _no_sentence(error: FtlaunchError) -> str:
    said = f"{error.message} {error.hint}"
    return f"no sentence: {said!r}" if "\n" in said or len(said) > 400 or not error.hint else ""


@contextlib.contextmanager
def looking(way: Way, folder: Path) -> Iterator[Verbs]:
    """A backend whose job lives while this is entered."""
    made = Verbs(way, folder / "state")
    made.begin()
    try:
        yield made
    finally:
        way.forgive()
        made.end()
