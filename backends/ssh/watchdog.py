"""The watchdog: lets go of a machine by itself when its jobs have ended and nobody comes back.

One file on the standard library, for Python 3.9 and later. It lives in a folder of its own beside
the jobs and knows no provider: what to call when it is time is data.

    watchdog.py install FOLDER   from standard input; returns when it watches
    watchdog.py start FOLDER     detached; one that watches already is left alone
    watchdog.py status FOLDER    what it last said of itself, with `alive` added
    watchdog.py hold FOLDER      from standard input: {"seconds": 600}; 0 lets go of the hold
    watchdog.py remove FOLDER    ends it and removes its folder

All but `start` print one line of JSON. In the folder, which only its owner may enter:
    config.json     jobs_root, idle_s, deadline_s, hook, check, poll_s, retry_s, retry_max_s
    headers         `Name: value` lines for the hook's request: the secret, and its only place
    watchdog.json   phase (watching, held, pausing), reason, tries, last: replaced by rename
    seen            touched by whoever looks after a job here; its time counts, not its content
    hold            seconds to stay awake, from when this process first sees it
    lock            held by the living watchdog, with its process id

A hook is {"method", "url", "body", "timeout_s"}, or {"argv", "timeout_s"}. It is called when for
`idle_s` no runner has held its lock, no client was seen and no hold was on; or `deadline_s` after
the configuration came, whatever runs, unless a hold is on. It is called again, ever more slowly,
until the machine is gone: that the call succeeded is no proof. `check` is a hook without effect,
called once by `install`, so that a wrong key is known while somebody is there to be told.

Times are intervals of a clock that never goes back; of a file only that its time has changed is
used. A machine whose clock is set meanwhile is not let go of too soon, or never.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Dict, List, NoReturn, Optional, Tuple

State = Dict[str, Any]

POLL_S, RETRY_S, RETRY_MAX_S, CALL_S, END_S = 15.0, 10.0, 300.0, 60.0, 10.0


def clock() -> float:
    """Seconds that never go back and, where the machine tells, count the time it was asleep."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def write_private(path: str, content: bytes) -> None:
    """Replace a file by rename; only its owner reads it."""
    temporary = "%s.%d" % (path, os.getpid())
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def changed_at(path: str) -> Optional[int]:
    """What another time of a file differs in; None when it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def is_locked(path: str) -> bool:
    """Whether a living process holds this lock. A look holds a shared one for a moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def a_runner_lives(jobs_root: str) -> bool:
    """Whether any run directory's lock is held."""
    try:
        names = os.listdir(jobs_root)
    except OSError:
        return False
    return any(is_locked(os.path.join(jobs_root, name, "lock")) for name in names)


# ── the hook ──────────────────────────────────────────────────────────────────────────────────────


def call(hook: State, folder: str) -> Tuple[bool, str]:
    """Whether it went well, and what came of it in words that hold no secret. Raises nothing."""
    headers: Dict[str, str] = {}
    try:
        if "argv" in hook:
            return _run(hook)
        headers = _headers(os.path.join(folder, "headers"))
        return _send(hook, headers)
    except Exception as error:  # noqa: BLE001 - it is tried again, whatever it was
        told = "%s: %s" % (type(error).__name__, error)
        for word in " ".join(headers.values()).split():
            told = told.replace(word, "…") if len(word) > 5 else told
        return False, told


def _headers(path: str) -> Dict[str, str]:
    try:
        with open(path, "rb") as file:
            lines = file.read().decode("latin-1").split("\n")
    except FileNotFoundError:
        return {}
    pairs = [line.partition(":") for line in lines if line.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _send(hook: State, headers: Dict[str, str]) -> Tuple[bool, str]:
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        """The key is for the host that was named, and for no other."""

        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    url = hook["url"]
    if not url.startswith(("https://", "http://")):
        raise ValueError("the hook's address is no https address")
    body = hook.get("body")
    request = urllib.request.Request(  # noqa: S310 - looked at above
        url,
        data=None if body is None else body.encode(),
        method=hook.get("method", "POST"),
        headers=headers,
    )
    try:
        opener = urllib.request.build_opener(Stay)
        with opener.open(request, timeout=hook.get("timeout_s", CALL_S)) as reply:
            return True, "HTTP %d" % reply.status
    except urllib.error.HTTPError as error:
        with error:
            return False, "HTTP %d" % error.code


def _run(hook: State) -> Tuple[bool, str]:
    done = subprocess.run(
        hook["argv"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=hook.get("timeout_s", CALL_S),
        check=False,
    )
    return done.returncode == 0, "exit code %d" % done.returncode


# ── watching ──────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """The life of a watchdog that holds its lock."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.state: State = {}
        self._raw = b""
        self._config: State = {}
        self._config_since = self._quiet_since = self._retry_at = clock()
        self._hold_until = self._config_since
        self._stamps: Dict[str, Optional[int]] = {}
        self._tries = 0
        self.tell("watching", "")

    def path(self, name: str) -> str:
        """A file of the folder."""
        return os.path.join(self.folder, name)

    def tell(self, phase: str, reason: str, **more: Any) -> None:
        """Say how it stands. A full disk must not keep it from acting."""
        told = {"phase": phase, "reason": reason, "tries": self._tries, **more}
        if {**self.state, **told} != self.state:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.state = {**self.state, "schema": 1, "pid": os.getpid(), **told, "at": stamp}
            with contextlib.suppress(OSError):
                write_private(self.path("watchdog.json"), json.dumps(self.state).encode())

    def configure(self) -> bool:
        """Read the configuration if it is another one; False when it has been taken away."""
        try:
            with open(self.path("config.json"), "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return False
        if raw != self._raw:
            self._raw = raw
            self._config = json.loads(raw)  # nonsense is said once, and what was known holds on
            self._config_since = self._quiet_since = clock()
        return True

    @property
    def poll_s(self) -> float:
        """How long to wait between two looks."""
        return float(self._config.get("poll_s", POLL_S))

    def tick(self) -> None:
        """Look once, and act if it is time."""
        why = self._why()
        if not why:
            held = clock() < self._hold_until
            self._tries, self._retry_at = 0, clock()
            self.tell("held" if held else "watching", "")
        elif clock() >= self._retry_at:
            self._act(why)

    def _act(self, why: str) -> None:
        wait = float(self._config.get("retry_s", RETRY_S)) * 2 ** min(self._tries, 10)
        longest = float(self._config.get("retry_max_s", RETRY_MAX_S))
        self._tries += 1
        self.tell("pausing", "pausing because %s" % why)
        _, came = call(self._config["hook"], self.folder)
        self._retry_at = clock() + min(wait, longest)
        self.tell("pausing", "pausing because %s" % why, last=came)

    def _why(self) -> str:
        """Why the machine should be let go of now; nothing when it should not."""
        now, idle_s = clock(), float(self._config["idle_s"])
        if self._changed("hold"):
            self._hold_until = now + self._held_s()
        held = now < self._hold_until
        seen = self._changed("seen")
        if held or seen or a_runner_lives(self._config["jobs_root"]):
            self._quiet_since = clock()
        if held:
            return ""
        deadline_s = self._config.get("deadline_s")
        if deadline_s is not None and now - self._config_since >= deadline_s:
            return "the deadline of %g s is over" % deadline_s
        if clock() - self._quiet_since >= idle_s:
            return "for %g s nothing has run here and nobody has asked" % idle_s
        return ""

    def _changed(self, name: str) -> bool:
        before, now = self._stamps.get(name), changed_at(self.path(name))
        self._stamps[name] = now
        return now is not None and now != before

    def _held_s(self) -> float:
        try:
            with open(self.path("hold"), "rb") as file:
                return max(0.0, float(json.loads(file.read())["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0


def live(watch: Watch) -> None:
    """Watch until the configuration is taken away, or the machine is gone."""
    last = ""
    while True:
        try:
            if not watch.configure():
                return
            watch.tick()
        except Exception:  # noqa: BLE001 - a watchdog that has died is worse than any of them
            told = traceback.format_exc()
            if told != last:
                last = told
                sys.stderr.write(told)
                sys.stderr.flush()
        time.sleep(watch.poll_s)


# ── coming and going ──────────────────────────────────────────────────────────────────────────────


def detach(folder: str) -> str:
    """Leave a watchdog behind that nothing ties to us; what went wrong, or nothing."""
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            _live_detached(folder, writing)
        os._exit(0)
    os.close(writing)
    os.waitpid(first, 0)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    return "" if told == b"ready" else told.decode("utf-8", "replace") or "it died"


def _live_detached(folder: str, telling: int) -> NoReturn:
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        errors = os.open(os.path.join(folder, "watchdog.err"), mode, 0o600)
        for source, target in ((null, 0), (null, 1), (errors, 2)):
            os.dup2(source, target)
        highest = max(int(name) for name in os.listdir("/dev/fd"))
        os.closerange(3, telling)
        os.closerange(telling + 1, highest + 1)
        os.chdir("/")
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _taken(lock):
            os.truncate(lock, 0)
            os.write(lock, b"%d" % os.getpid())
            watch = Watch(folder)
            os.write(telling, b"ready")
            os.close(telling)
            live(watch)
        else:
            os.write(telling, b"ready")
    except BaseException as error:  # noqa: BLE001 - this process has nobody to raise it to
        with contextlib.suppress(OSError):
            os.write(telling, str(error).encode("utf-8", "replace"))
        traceback.print_exc()
    finally:
        os._exit(0)


def _taken(lock: int) -> bool:
    """The lock, if no other watchdog has it; one who only looks is waited for."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.01)
            continue
        return False
    return False


def status(folder: str) -> State:
    """What the watchdog last said, and whether it lives."""
    alive = is_locked(os.path.join(folder, "lock"))
    try:
        with open(os.path.join(folder, "watchdog.json"), "rb") as file:
            found: State = json.loads(file.read())
    except (OSError, ValueError):
        found = {"phase": "absent"}
    return {**found, "alive": alive}


def install(folder: str, request: State) -> State:
    """Write what was given, and see to it that one watches; the status, and how `check` went."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    config = request["config"]
    program = os.path.join(folder, "watchdog.py")
    write_private(program, request["program"].encode())
    write_private(os.path.join(folder, "headers"), base64.b64decode(request["secret"]))
    write_private(os.path.join(folder, "config.json"), json.dumps(config).encode())
    touch(folder)
    argv = [sys.executable, "-I", program, "start", folder]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        return {"error": done.stderr.decode("utf-8", "replace").strip() or "it did not start"}
    works, came = call(config["check"], folder) if config.get("check") else (True, "")
    return {**status(folder), "check": "" if works else came}


def touch(folder: str) -> None:
    """Note that somebody is there."""
    path = os.path.join(folder, "seen")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.utime(path)


def remove(folder: str) -> State:
    """End the watchdog, and be sure of it; its folder is gone then, and the secret with it."""
    lock = os.path.join(folder, "lock")
    for name in ("config.json", "headers"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    for what in (signal.SIGTERM, signal.SIGKILL):
        until = clock() + END_S
        while is_locked(lock) and clock() < until:
            with contextlib.suppress(OSError, ValueError), open(lock, "rb") as file:
                os.kill(int(file.read()), what)
            time.sleep(0.05)
    if is_locked(lock):
        return {"error": "the watchdog does not end"}
    shutil.rmtree(folder, ignore_errors=True)
    return {"phase": "absent", "alive": False}


def main(argv: List[str]) -> int:
    """Do one command; its exit code."""
    command, folder = argv[0], os.path.abspath(argv[1])
    if command == "start":
        problem = detach(folder)
        sys.stderr.write(problem)
        return 1 if problem else 0
    if command == "install":
        answer = install(folder, json.loads(sys.stdin.buffer.readline()))
    elif command == "remove":
        answer = remove(folder)
    else:
        if command == "hold" and os.path.isdir(folder):
            write_private(os.path.join(folder, "hold"), sys.stdin.buffer.readline())
        answer = status(folder)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
