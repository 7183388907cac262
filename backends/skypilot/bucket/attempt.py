"""One machine's work on a job: what the bucket has, a runner on it, and the bucket kept up to date.

SkyPilot starts this on every machine that it makes for the job. A machine that is taken away gets a
signal, if anything; what it leaves is what the bucket has by then.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import ASKED, HALF, RUN, bringing, halves, of_job
from .mirror import ENDED, Mirror
from .objects import Objects

PUSH_S = 2.0
FULL_S = 900.0
"""How long the results of a job that is over wait for a bucket that does not take them."""
NOTICE_S = 25.0
"""What a machine that is taken away may leave to the job: clouds say half a minute to two."""
LINGER_S = 300.0
TOLD_S = 15.0
WITHHELD = re.compile(
    r"SSH_.*|_|SHLVL|PWD|OLDPWD|SKYPILOT_.*|FTLAUNCH_BUCKET_.*|"
    r".*(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)",
    re.IGNORECASE,
)
"""Of the machine's variables, as `backends.ssh.place` has it; and what is about SkyPilot's job."""
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BY_SIGNAL = re.compile(r"\bSIG(TERM|INT|HUP)\b")
CODES = {"succeeded": 0, "expired": 124, "stopped": 130}


class Attempt:
    """What one start of the job on one machine does.

    python     the machine's own, for the runner
    half       of the job's secrets
    user_home  the HOME that the job sees
    asked      grows when this machine is asked to end; see `listen`
    """

    def __init__(
        self,
        objects: Objects,
        job: str,
        root: Path,
        *,
        python: str,
        half: str = "",
        user_home: str | None = None,
        asked: list[int] | None = None,
    ) -> None:
        self._objects = objects
        self._job = job
        self._root = root
        self.home = root / "runs" / job
        self._python = python
        self._half = half
        self._user_home = user_home
        self._asked = [] if asked is None else asked
        self._over = threading.Event()
        self._told = ""
        self._wished = False
        self._trouble = ""

    def run(self) -> int:
        """Work on the job until it has a verdict; the exit code."""
        state = self._state_there()
        if state.get("phase") in ENDED:
            return _code(state)
        given = bringing.about(self._objects, self._job)
        secrets = self._secrets()
        self._clear()
        whole = bringing.bring(self._objects, self._job, self._root)
        self._own_software(given)
        mirror = Mirror(self._objects, self._job, self.home, given, whole)
        mirror.drop_torn()
        runner = load_runner(self.home)
        self._start(given, secrets, again=bool(state))
        return self._follow(runner, mirror)

    # ── before ────────────────────────────────────────────────────────────────────────────────

    def _state_there(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._objects.read(of_job(self._job, RUN, "state.json"))))
        except FileNotFoundError:
            return {}

    def _secrets(self) -> dict[str, str]:
        if not self._half:
            return {}
        try:
            return halves.join(self._half, self._objects.read(of_job(self._job, HALF)))
        except FileNotFoundError:
            raise bringing.Torn("the job's secrets were taken back: it was let go of") from None

    def _clear(self) -> None:
        """What an earlier attempt left here: only what the bucket has was ever seen by anybody."""
        if (self.home / "runner.py").exists():
            load_runner(self.home).request_stop(str(self.home), 0.0)
        shutil.rmtree(self.home, ignore_errors=True)

    def _own_software(self, given: dict[str, Any]) -> None:
        """Whether this machine has what the job needs, so that no environment is made."""
        wanted = given["probe"]
        if not given["prefix"] or not wanted:
            return
        done = subprocess.run(
            [self._python, "-c", _PROBE, json.dumps([wanted, given["programs"]])],
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            own = self.home / "environment" / "own"
            own.parent.mkdir(parents=True, exist_ok=True)
            own.touch()

    def _start(self, given: dict[str, Any], secrets: dict[str, str], *, again: bool) -> None:
        env = {k: v for k, v in os.environ.items() if not WITHHELD.fullmatch(k)}
        if given["prefix"] and not (self.home / "environment" / "own").exists():
            prefix = self._root / given["prefix"]
            for name in ("PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX"):
                env.pop(name, None)
            env["VIRTUAL_ENV"] = str(prefix)
            env["PATH"] = os.pathsep.join((str(prefix / "bin"), env.get("PATH", os.defpath)))
        if self._user_home is not None:
            env["HOME"] = self._user_home
        lasting = {name: str(self._root / "lasting" / at) for name, at in given["lasting"]}
        done = subprocess.run(
            [self._python, "-I", str(self.home / "runner.py"), "start"]
            + (["--attempt"] if again else [])
            + ["--", str(self.home)],
            cwd=self.home,
            env={**env, **lasting, **given["env"], **secrets},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode:
            raise bringing.Torn(f"the runner did not start: {done.stderr.strip()}")

    # ── meanwhile ─────────────────────────────────────────────────────────────────────────────

    def _follow(self, runner: Any, mirror: Mirror) -> int:
        """Until the runner has ended: what it writes is copied, what is asked for is passed on.

        Checkpoints are large: the log does not wait for them, and neither does a wish.
        """
        threads = [
            threading.Thread(target=self._carry, args=(runner, mirror), daemon=True),
            threading.Thread(target=self._listen, args=(runner,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        pushed = 0.0
        stopping = False
        while True:
            state = runner.status(str(self.home))
            if state["phase"] in (*ENDED, "lost"):
                break
            if self._asked and not stopping:
                stopping = True
                runner.request_stop(str(self.home), NOTICE_S / 2)
            if time.monotonic() - pushed >= PUSH_S:
                self._keep(lambda: mirror.push(final=False), 0.0)
                pushed = time.monotonic()
            time.sleep(0.2)
        self._over.set()
        threads[0].join()
        return self._ended(state, mirror)

    def _carry(self, runner: Any, mirror: Mirror) -> None:
        while not self._over.wait(PUSH_S):
            state = runner.status(str(self.home))
            self._keep(lambda: mirror.push_checkpoints(state), 0.0)  # noqa: B023 - called at once

    def _listen(self, runner: Any) -> None:
        """Lay in what was asked for; a bucket that is silent has no wish."""
        while not self._over.wait(PUSH_S):
            try:
                asked = json.loads(self._objects.read(of_job(self._job, ASKED)))
                if asked["id"] == self._told:
                    continue
                if asked["what"] == "stop":
                    self._wished = True
                    runner.request_stop(str(self.home), float(asked["grace_s"]))
                else:
                    runner.request_checkpoint(str(self.home))
                self._told = asked["id"]
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - the training goes on
                self._say(error)

    # ── after ─────────────────────────────────────────────────────────────────────────────────

    def _ended(self, state: dict[str, Any], mirror: Mirror) -> int:
        """Keep the results, then the verdict; of a machine that is taken away there is none."""
        self._keep(lambda: mirror.push_checkpoints(state), FULL_S)
        if self._is_taken(state):
            self._keep(lambda: mirror.push(final=False, tell=False), 0.0)
            # An exit of our own would be taken for the job's failure, and nothing would go on.
            time.sleep(LINGER_S)
            return 143
        if not self._keep(lambda: mirror.push(final=True, tell=False), FULL_S):
            print(f"{self._job}: the bucket is in the way: {self._trouble}", flush=True)
            return 1
        if state["phase"] == "lost":
            print(f"{self._job}: its runner was killed", flush=True)
            return 1
        told = self._keep(lambda: mirror.push(final=True), FULL_S)
        print(f"{self._job}: {state['phase']} {state.get('reason') or ''}", flush=True)
        if told:
            self._objects.drop(of_job(self._job, HALF))
        return _code(state) if told else 1

    def _is_taken(self, state: dict[str, Any]) -> bool:
        """Whether the job ended since its machine does, and not by itself or as it was asked to."""
        if self._wished or state["phase"] in {"succeeded", "expired"}:
            return False
        by_signal = state["phase"] == "lost" or BY_SIGNAL.search(str(state.get("reason")))
        end = time.monotonic() + TOLD_S
        while by_signal and not self._asked and time.monotonic() < end:
            time.sleep(0.1)  # the runner may have been told first
        return bool(self._asked) and (bool(by_signal) or state["phase"] == "stopped")

    def _keep(self, push: Callable[[], None], patience_s: float) -> bool:
        """Copy; what the bucket does not take now it may take later.

        False when it did not take it while patience lasted. The training goes on.
        """
        end = time.monotonic() + patience_s
        while True:
            try:
                push()
            except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
                self._say(error)
                if time.monotonic() >= end:
                    return False
            else:
                return True
            time.sleep(PUSH_S)

    def _say(self, error: Exception) -> None:
        if self._trouble != str(error):
            self._trouble = str(error)
            print(f"{self._job}: the bucket does not do it now: {error}", flush=True)


def listen() -> list[int]:
    """Outlive what ends this machine, as far as it goes: there is something to keep."""
    asked: list[int] = []
    for what in ENDINGS:
        signal.signal(what, lambda number, _: asked.append(number))
    return asked


def load_runner(home: Path) -> Any:
    """The runner that lies in a run directory, as a module."""
    spec = importlib.util.spec_from_file_location("ftlaunch_runner", home / "runner.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ftlaunch_runner"] = module
    spec.loader.exec_module(module)
    return module


def _code(state: dict[str, Any]) -> int:
    if state["phase"] in CODES:
        return CODES[state["phase"]]
    return int(state.get("exit_code") or 1)


_PROBE = """
import json, shutil, sys
from importlib import metadata
wanted, programs = json.loads(sys.argv[1])
for one in wanted:
    name, _, version = one.partition("==")
    found = metadata.version(name)
    assert version in ("", found, found.partition("+")[0])
assert all(shutil.which(name) for name in programs)
"""
