"""The far side of a workplace: jobs on this machine, started, looked at, asked, ended, removed.

One file on the standard library, for Python 3.9 and later. `backends.ssh.workplace` sends it with
every request over standard input and reads one line of JSON; nothing of it stays on the machine.
What a job's state means is known to the runner that lies in the job's run directory: it is loaded
from there, so that a job is always judged by the runner that ran it. `backends.local.supervisor`
is the reference for what happens here.

Below the workplace's root:
    runs/JOB/   a run directory
    trash/      run directories on their way out
    watch/      the watchdog's folder, if there is one: each request touches `seen` in it
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from typing import Any, Callable, Dict, List, Optional

Answer = Dict[str, Any]

NOTE = "place.json"
STALE_S = 60.0  # see laying.py
QUIET_S = 30.0  # a runner that was told to end, and in this time neither ends nor writes, hangs
WITHHELD = re.compile(
    r"SSH_.*|_|SHLVL|PWD|OLDPWD|.*(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)", re.IGNORECASE
)
"""Of the machine's variables: what is a secret by its name, and what is about our connection."""
OTHER_PYTHON = ("PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX")  # would reach into a job's own Python


class NoRunner(Exception):
    """The run directory has a state and no runner that could tell what it means."""


def write_private(path: str, content: bytes) -> None:
    """Replace a file by rename; only its owner reads it."""
    temporary = "%s.%s" % (path, os.urandom(4).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


# ── looking ───────────────────────────────────────────────────────────────────────────────────────


def runner_of(home: str, spare: Optional[str]) -> Any:
    """The runner that lies in a run directory, as a module; None when nothing was started there.

    spare  the source to take when the job has removed its own
    """
    try:
        with open(os.path.join(home, "runner.py"), "rb") as file:
            source = file.read()
    except OSError:
        if not any(os.path.exists(os.path.join(home, name)) for name in ("state.json", "lock")):
            return None
        if spare is None:
            raise NoRunner from None
        source = spare.encode()
    name = "runner_" + hashlib.sha256(source).hexdigest()
    if name not in sys.modules:
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, "runner.py", "exec", dont_inherit=True), vars(module))  # noqa: S102
    return sys.modules[name]


def look(home: str, spare: Optional[str]) -> Answer:
    """How the job in a run directory stands: its state, `alive`, `leftover`."""
    runner = runner_of(home, spare)
    found = {"phase": "absent"} if runner is None else runner.status(home)
    alive = bool(found.pop("alive", False))
    if found["phase"] == "absent":
        return {"state": None, "alive": False, "leftover": False}
    leftover = found["phase"] == "lost" and runner.leftover_group(found) is not None
    return {"state": found, "alive": alive, "leftover": leftover}


def jobs(request: Answer) -> Answer:
    """Every run directory: where it stands, whether it works. One that is odd hides no other."""
    runs = os.path.join(request["root"], "runs")
    found = {}
    for name in sorted(os.listdir(runs)) if os.path.isdir(runs) else []:
        if name.startswith("."):  # of an upload that has begun
            continue
        try:
            seen = look(os.path.join(runs, name), request.get("runner"))
            phase = (seen["state"] or {}).get("phase", "absent")
            found[name] = {"phase": phase, "alive": seen["alive"], "leftover": seen["leftover"]}
            if phase == "absent" and is_laid(request, name):
                found[name]["laid"] = True
        except NoRunner:
            raise
        except Exception as error:  # noqa: BLE001
            odd = "%s: %s" % (type(error).__name__, error)
            found[name] = {"phase": "unknown", "alive": False, "leftover": False, "odd": odd}
    return {"jobs": found}


def status(request: Answer) -> Answer:
    """One job's state, and in few words how the others stand."""
    there = os.path.isdir(request["home"])
    return {**look(request["home"], request.get("runner")), "there": there, **jobs(request)}


# ── starting ──────────────────────────────────────────────────────────────────────────────────────


def start(request: Answer) -> Answer:
    """Start the runner that lies in the run directory; answers once it holds its lock.

    env   variables that go over the machine's own
    note  what else is to be noted of how the job was started
    """
    home = request["home"]
    runner = os.path.join(home, "runner.py")
    if not os.path.exists(runner):
        return {"absent": True}
    done = subprocess.run(
        [sys.executable, "-I", runner, "start", "--", home],
        env=variables(request),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,  # what ends our connection is not meant for the job
    )
    if done.returncode:
        return {"refused": done.stderr.decode("utf-8", "replace").strip() or "it said nothing"}
    return {"state": json.loads(done.stdout)}


def give(request: Answer) -> Answer:
    """Leave all that `start` would start the runner with to somebody else on this machine.

    begin  the program that takes it (`begin.py`); answers where it lies
    """
    home = request["home"]
    if not os.path.exists(os.path.join(home, "runner.py")):
        return {"absent": True}
    program = beside(request, "begin.py")
    write_private(program, request["begin"].encode())
    given = {os.fsdecode(name): os.fsdecode(value) for name, value in variables(request).items()}
    content = json.dumps({"python": sys.executable, "env": given})
    write_private(beside(request, "given"), content.encode())
    return {"begin": program, "python": sys.executable}


def forget_given(request: Answer) -> Answer:
    """Remove what was given, with its secrets."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside(request, "given"))
    return {}


def variables(request: Answer) -> Dict[bytes, bytes]:
    """The variables a job is started with; which of the machine's own they are is noted once."""
    home = request["home"]
    alone = OTHER_PYTHON if "VIRTUAL_ENV" in request["env"] else ()
    names = sorted(os.environ)
    withheld = [name for name in names if WITHHELD.fullmatch(name) or name in alone]
    machine = {os.fsencode(n): os.environb[os.fsencode(n)] for n in names if n not in withheld}
    if not os.path.exists(os.path.join(home, "state.json")):
        given = [*map(os.fsdecode, machine)]
        note = {"schema": 1, **request["note"], "variables": given, "withheld": withheld}
        write_private(os.path.join(home, NOTE), json.dumps(note).encode())
    over = {
        name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape")
        for name, value in request["env"].items()
    }
    return {**machine, **over}


def beside(request: Answer, name: str) -> str:
    """A file of a job that is not in its run directory."""
    return os.path.join(os.path.dirname(request["home"]), ".%s.%s" % (request["job"], name))


# ── asking, ending, removing ──────────────────────────────────────────────────────────────────────


def stop(request: Answer) -> Answer:
    """Ask the job to end within `grace_s`; of a lost one, end here what it left behind."""
    runner = runner_of(request["home"], request.get("runner"))
    if runner is not None:
        runner.request_stop(request["home"], request["grace_s"])
    return {}


def checkpoint(request: Answer) -> Answer:
    """Ask the job for a checkpoint."""
    runner = runner_of(request["home"], request.get("runner"))
    if runner is not None:
        runner.request_checkpoint(request["home"])
    return {}


def end(request: Answer) -> Answer:
    """End whatever works in a run directory; how it stands then."""
    home, spare = request["home"], request.get("runner")
    seen = look(home, spare)
    if seen["state"] is None and not seen["alive"]:
        return seen
    runner_of(home, spare).request_stop(home, 0.0)
    seen = settled(home, spare, request.get("quiet_s", QUIET_S))
    if seen["alive"] and seen["state"] is not None:  # it hangs, or somebody has suspended it
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(int(seen["state"]["pid"]), signal.SIGKILL)
        seen = settled(home, spare, request.get("quiet_s", QUIET_S))
    return seen


def settled(home: str, spare: Optional[str], quiet_s: float) -> Answer:
    """The state of a run that was told to end: when it has, or when nothing moves any more."""
    version: Any = None
    since = time.monotonic()
    while True:
        seen = look(home, spare)
        if seen["leftover"]:
            runner_of(home, spare).request_stop(home, 0.0)  # with no runner left, this ends it
            seen = look(home, spare)
        if not (seen["alive"] or seen["leftover"]):
            return seen
        now = (seen["state"] or {}).get("version")
        if now != version:
            version, since = now, time.monotonic()
        if time.monotonic() - since > quiet_s:
            return seen
        time.sleep(0.02)


def undo(request: Answer) -> Answer:
    """End and take away what a launch left that did not succeed.

    by  the computer that launched; what another one lays out, or has laid out, is left alone
    """
    if owner(request) not in ("", request["by"]):
        return {}
    seen = end(request)
    return {"lives": True} if seen["alive"] or seen["leftover"] else remove(request)


def claim_of(request: Answer) -> str:
    """The file that says which computer lays a job out (see `laying.py`)."""
    return beside(request, "by")


def is_laid(request: Answer, name: str) -> bool:
    """Whether another computer is laying that job out now."""
    one = {"home": os.path.join(request["root"], "runs", name), "job": name}
    if owner(one) in ("", request["by"]):
        return False
    with contextlib.suppress(OSError):
        return abs(time.time() - os.stat(claim_of(one)).st_mtime) < STALE_S
    return False


def owner(request: Answer) -> str:
    """The computer that lays a job out, or has; empty when none does."""
    try:
        with open(claim_of(request), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def remove(request: Answer) -> Answer:
    """Take a run directory away: gone in one step, then its disk space follows.

    begun  where the upload kept what it remembers of the run directory
    """
    home, trash = request["home"], os.path.join(request["root"], "trash")
    if os.path.isdir(home):
        seen = look(home, request.get("runner"))
        if seen["alive"] or seen["leftover"]:
            return {"lives": True}
        os.makedirs(trash, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(home, os.path.join(trash, "%s.%s" % (request["job"], os.urandom(4).hex())))
    shutil.rmtree(request["begun"], ignore_errors=True)
    for name in ("by", "begin.py", "given"):
        with contextlib.suppress(OSError):
            os.unlink(beside(request, name))
    for name in os.listdir(trash) if os.path.isdir(trash) else []:
        _delete(os.path.join(trash, name))
    return {}


def _delete(tree: str) -> None:
    """Delete a folder, also where a job took the write permission away from its own."""
    shutil.rmtree(tree, ignore_errors=True)
    if os.path.lexists(tree):
        for folder, _, _ in os.walk(tree):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)
        shutil.rmtree(tree, ignore_errors=True)


# ── being there ───────────────────────────────────────────────────────────────────────────────────


def touch(root: str) -> None:
    """Tell the watchdog, if there is one, that somebody is there."""
    with contextlib.suppress(OSError):
        os.utime(os.path.join(root, "watch", "seen"))


def present(request: Answer) -> Answer:
    """Being there is all; who lays out a job goes on doing so."""
    if request.get("job") and owner(request) == request["by"]:
        with contextlib.suppress(OSError):
            os.utime(claim_of(request))
    return {}


COMMANDS: Dict[str, Callable[[Answer], Answer]] = {
    "status": status,
    "jobs": jobs,
    "start": start,
    "give": give,
    "forget_given": forget_given,
    "stop": stop,
    "checkpoint": checkpoint,
    "end": end,
    "remove": remove,
    "undo": undo,
    "touch": present,
}


def main(argv: List[str]) -> int:
    """Do one command."""
    request = json.loads(sys.stdin.buffer.readline())
    touch(request["root"])
    try:
        answer = COMMANDS[argv[0]](request)
    except NoRunner:
        answer = {"needs": "runner"}
    except OSError as error:
        answer = {"error": str(error), "errno": error.errno}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
