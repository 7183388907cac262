"""What runs in a Modal container: it runs a job's runner, and keeps its Volume up to date.

One file on the standard library and the modal SDK, mounted as a top-level module. The run directory
stands on the container's own disk; the Volume holds a copy, which is all that is left when the
container goes, and all that anybody else ever sees. So after every look what has changed is copied
and committed: the state, log segments, small files, checkpoints that are complete and only those.

A job of several nodes is one call of a cluster, and this file runs in each of its containers. Each
takes what the Volume holds and has a runner of its own; those find each other by `team.py`. Only
the first one's container writes to the Volume. What takes one takes all, and all begin again.

A container that begins again on the same job (after a preemption, at the end of a day, after a
fault that a retry may mend) takes what the Volume holds and lets the runner make another attempt.

Below the Volume's root:
    JOB/                a run directory, and
    JOB/.modal.json     which app and call run it
    JOB/.whole/…        one list of files for each checkpoint that was copied as a whole
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

PLACE = Path("/mnt/ftlaunch")
RUNS, CACHES, LASTING = PLACE / "runs", PLACE / "caches", PLACE / "lasting"
WORK = PLACE / "work"
NOTE, WHOLE, KILLS = ".modal.json", ".whole", ".kills.json"
TAKEN = ".taken"
"""Behind a job's name in the control dictionary: the cluster of which a container must go."""
SMALL_BYTES = 1 << 20
PUSH_S = 2.0
FULL_S = 900.0
"""How long the results of a job that is over wait for a Volume that does not take them."""
TRIES = 3
"""Attempts of a job whose runner is killed each time."""
ENDED = ("succeeded", "failed", "stopped", "expired")
OWN = frozenset({"lock", "plan.json", "runner.py", "team.py", ".reserve"})
LAST = ("manifest.json", "state.json")
TAKEN_AWAY = "a container of the cluster is taken away"
OUR_VARIABLES = ("MODAL_", "FTLAUNCH_MODAL_")

Look = tuple[int, int]


class BeginAgain(Exception):
    """This attempt is over and the job is not: Modal begins the call once more."""


class Mirror:
    """The copy of a run directory on the Volume."""

    def __init__(self, home: Path, there: Path, rule: str | None) -> None:
        self.home = home
        self.there = there
        self._rule = rule
        self._pushed: dict[str, Look] = {}
        self._seen: dict[str, Look] = {}
        self._whole: set[str] = set()

    # ── from the Volume ───────────────────────────────────────────────────────────────────────

    def restore(self) -> None:
        """Take what the Volume holds; of checkpoints those that were copied as a whole."""
        for path in list(self._files(self.there)):
            name = str(path)
            checkpoint = self._checkpoint_of(path)
            if path.parts[0] == WHOLE or name in {NOTE, KILLS}:
                continue
            if checkpoint is not None and not self._is_whole(checkpoint):
                continue
            target = self.home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.there / path, target)
            self._pushed[name] = _look(target)
            if checkpoint is not None:
                self._whole.add(checkpoint)

    def _is_whole(self, checkpoint: str) -> bool:
        try:
            promised = json.loads((self.there / WHOLE / f"{checkpoint}.json").read_bytes())
            return all(
                (self.there / checkpoint / name).stat().st_size == size
                for name, size in promised.items()
            )
        except (OSError, ValueError, AttributeError):
            return False

    # ── to the Volume ─────────────────────────────────────────────────────────────────────────

    def push(self, state: dict[str, Any], *, final: bool, tell: bool = True) -> bool:
        """Copy what has changed; True when anything was.

        final  nothing changes any more: everything is copied, however large
        tell   copy the state and the manifest too
        """
        # As they are before the rest is copied: a state never speaks of lines that are not there.
        last = list(self._last(final=final)) if tell else []
        changed = self._push_checkpoints(state)
        seen = {}
        for path in self._files(self.home):
            name = str(path)
            if name in OWN or name in LAST or self._checkpoint_of(path) is not None:
                continue
            with contextlib.suppress(FileNotFoundError):
                now = seen[name] = _look(self.home / path)
                settled = final or now[0] <= SMALL_BYTES or self._seen.get(name) == now
                if settled and self._pushed.get(name) != now:
                    changed |= self._copy(name, now)
        self._seen = seen
        for name, now, content in last:
            write(self.there / name, content)
            self._pushed[name] = now
            changed = True
        return changed

    def _last(self, *, final: bool) -> Iterator[tuple[str, Look, bytes]]:
        """What is told last, where it has changed. A verdict comes with the final push only."""
        if not final and _read(self.home / "state.json").get("phase") in ENDED:
            return
        for name in LAST:
            with contextlib.suppress(FileNotFoundError):
                now = _look(self.home / name)
                content = (self.home / name).read_bytes()
                ended = name == "state.json" and _phase(content) in ENDED
                if self._pushed.get(name) != now and (final or not ended):
                    yield name, now, content

    def _push_checkpoints(self, state: dict[str, Any]) -> bool:
        rows = [row for row in state.get("checkpoints") or () if row.get("complete")]
        complete = [row["path"] for row in rows]
        changed = False
        for path in complete:
            if path not in self._whole:
                changed |= self._push_checkpoint(path)
        for path in sorted(self._whole):
            if not (self.home / path).exists() and complete:
                (self.there / WHOLE / f"{path}.json").unlink()
                shutil.rmtree(self.there / path, ignore_errors=True)
                self._whole.discard(path)
                changed = True
        return changed

    def _push_checkpoint(self, path: str) -> bool:
        """All of it, then the list that says so."""
        sizes = {}
        try:
            for file in self._files(self.home / path):
                place(self.home / path / file, self.there / path / file)
                sizes[str(file)] = (self.there / path / file).stat().st_size
        except FileNotFoundError:
            return False  # the trainer has removed it meanwhile
        write(self.there / WHOLE / f"{path}.json", json.dumps(sizes).encode())
        self._whole.add(path)
        return True

    def _copy(self, name: str, now: Look) -> bool:
        try:
            place(self.home / name, self.there / name)
        except FileNotFoundError:
            return False
        self._pushed[name] = now
        return True

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    def _checkpoint_of(self, path: Path) -> str | None:
        """The checkpoint that a file is part of."""
        if self._rule is None:
            return None
        # Counted from the run directory: what an earlier job left lies deeper, and is an input.
        depth = len(Path(self._rule).parts)
        up = Path(*path.parts[:depth])
        return str(up) if len(path.parts) > depth and up.match(self._rule) else None

    @staticmethod
    def _files(top: Path) -> Iterator[Path]:
        """Regular files below a folder, no links: what is linked is somebody else's."""
        for at, names, files in os.walk(top):
            names[:] = [name for name in names if not (Path(at) / name).is_symlink()]
            for name in files:
                path = Path(at) / name
                if path.is_file() and not path.is_symlink() and not name.endswith(".partial"):
                    yield path.relative_to(top)


def _look(path: Path) -> Look:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


def place(source: Path, target: Path) -> None:
    """Put a copy in place by rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, partial)
    partial.replace(target)


def write(path: Path, content: bytes) -> None:
    """Replace a file by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def load_runner(home: Path) -> Any:
    """The runner that lies in a run directory, as a module."""
    spec = importlib.util.spec_from_file_location("ftlaunch_runner", home / "runner.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ftlaunch_runner"] = module
    spec.loader.exec_module(module)
    return module


class Seat:
    """Which of the job's containers this one is.

    rank       0 for the one that keeps the results, and for one that is alone
    cluster    its id at Modal, another one in each attempt; "" for a container that is alone
    variables  what the runner is told of the others
    """

    def __init__(self, nodes: int) -> None:
        """Raises RuntimeError where Modal does not say where the others are."""
        self.rank, self.cluster, self.variables = 0, "", {}
        if nodes == 1:
            return
        import modal

        found = modal.Cluster.from_context()
        self.rank, self.cluster = found.container_rank(), found.object_id
        kinds = [found.container_ips(family="ipv4"), found.container_ips()]
        whole = [ips for ips in kinds if len(ips) == nodes and all(ips)]
        if not whole:
            raise RuntimeError(f"Modal says where {len(kinds[1])} of the {nodes} containers are")
        # Of each attempt its own: who is left of an earlier one is no member of this one.
        word = f"{os.environ.get('FTLAUNCH_TEAM_TOKEN', '')} {self.cluster}"
        self.variables = {
            "FTLAUNCH_NODE_RANK": str(self.rank),
            "FTLAUNCH_NODE_ADDRESSES": " ".join(whole[0]),
            "FTLAUNCH_TEAM_TOKEN": hashlib.sha256(word.encode()).hexdigest(),
        }


class Attempt:
    """One container's work on a job."""

    def __init__(self, request: dict[str, Any]) -> None:
        import modal

        self._request = request
        self._name: str = request["job"]
        self.home = WORK / self._name
        self.there = RUNS / self._name
        self._volume = modal.Volume.from_name(request["volume"])
        self._lasting = modal.Volume.from_name(request["lasting"])
        self._control = modal.Dict.from_name(request["control"], create_if_missing=True)
        self._seat = Seat(int(request.get("nodes") or 1))
        self._notice_s = float(request["notice_s"])
        self._told = 0
        self._owed = False
        self._trouble = ""
        self._began = time.monotonic()
        self._until = self._began + float(request["attempt_s"])

    def run(self) -> dict[str, Any]:
        """Work on the job until it has a verdict. Raises BeginAgain when this attempt must end."""
        import modal

        state = _read(self.there / "state.json")
        if state.get("phase") in ENDED:
            return _verdict(state)
        if self._seat.rank:
            return self._beside(state)
        with contextlib.ExitStack() as stack:
            about = {"call": modal.current_function_call_id(), "app": self._request["app"]}
            if self._request["key"]:
                about["door"] = stack.enter_context(door(self._request["key"]))
            about["note"] = self._request["note"]
            # A Volume that takes nothing now holds up nobody: what is said here is said later.
            self._keep(partial(self._write, NOTE, about), 0.0)
            return self._work(state)

    def _write(self, name: str, content: object) -> bool:
        write(self.there / name, json.dumps(content).encode())
        return True

    def _work(self, state: dict[str, Any]) -> dict[str, Any]:
        mirror = Mirror(self.home, self.there, self._rule())
        runner = self._begun(mirror, again=bool(state))
        try:
            return self._follow(runner, mirror)
        except BeginAgain:
            raise
        except BaseException:
            # Preempted, cancelled, or our own mistake: what is complete is kept.
            with contextlib.suppress(Exception):
                runner.request_stop(str(self.home), self._notice_s / 2)
                self._wait(runner, self._notice_s)
            self._keep(
                lambda: mirror.push(_read(self.home / "state.json"), final=False, tell=False), 0.0
            )
            raise

    def _beside(self, state: dict[str, Any]) -> dict[str, Any]:
        """Another node's work: nothing is kept here, and its verdict is heard by the first."""
        runner = None
        try:
            runner = self._begun(Mirror(self.home, self.there, self._rule()), again=bool(state))
            while True:
                seen = runner.status(str(self.home))
                if seen["phase"] in (*ENDED, "lost"):
                    return _verdict(seen)
                time.sleep(0.2)
        except BaseException:
            # The first one waits for nobody who does not come, and keeps what is complete.
            with contextlib.suppress(Exception):
                self._control[self._name + TAKEN] = self._seat.cluster
                if runner is not None:
                    self._wait(runner, self._notice_s)
            raise

    def _begun(self, mirror: Mirror, *, again: bool) -> Any:
        """The runner, started on what the Volume holds."""
        self.home.mkdir(parents=True, exist_ok=True)
        mirror.restore()
        self._link()
        runner = load_runner(self.home)
        self._start(again=again)
        return runner

    def _rule(self) -> str | None:
        found = _read(self.there / "plan.json").get("checkpoint")
        return found["glob"] if found else None

    def _link(self) -> None:
        for at, target in self._request["links"]:
            path = self.home / at
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_symlink():
                path.symlink_to(target)

    def _start(self, *, again: bool) -> None:
        ours = str(Path(__file__).parent)
        env = {k: v for k, v in os.environ.items() if not k.startswith(OUR_VARIABLES)}
        paths = [p for p in env.pop("PYTHONPATH", "").split(os.pathsep) if p and p != ours]
        if paths:
            env["PYTHONPATH"] = os.pathsep.join(paths)
        env |= self._seat.variables
        argv = [sys.executable, "-I", str(self.home / "runner.py"), "start"]
        done = subprocess.run(
            [*argv, *(["--attempt"] if again else []), "--", str(self.home)],
            cwd=self.home,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode:
            raise RuntimeError(f"the runner did not start: {done.stderr.strip()}")

    def _follow(self, runner: Any, mirror: Mirror) -> dict[str, Any]:
        pushed = 0.0
        while True:
            state = runner.status(str(self.home))
            if state["phase"] in (*ENDED, "lost"):
                return self._over(state, mirror)
            now = time.monotonic()
            if now - pushed >= self._request.get("push_s", PUSH_S):
                pushed = now
                self._keep(partial(mirror.push, state, final=False), 0.0)
                self._obey(runner)
                if self._is_taken():
                    self._wind_down(runner, mirror, self._notice_s / 2, TAKEN_AWAY)
            if now > self._until:
                grace = float(self._request["wind_down_s"])
                self._wind_down(runner, mirror, grace, "the longest time of one attempt is over")
            time.sleep(0.2)

    def _over(self, state: dict[str, Any], mirror: Mirror) -> dict[str, Any]:
        """The runner has ended: what the call comes to. Raises BeginAgain where that may help."""
        if state["phase"] == "lost":
            return self._killed(state, mirror)
        if _node_lost(state):
            self._try_again(state, mirror, state["reason"])
        if not self._keep_all(mirror, state):
            # Not begun again: that would be to train once more for a Volume that is full.
            return {"phase": "lost", "reason": f"the Volume is in the way: {self._trouble}"}
        print(f"{self._name}: {state['phase']} {state.get('reason') or ''}", flush=True)
        return _verdict(state)

    def _wind_down(self, runner: Any, mirror: Mirror, grace: float, why: str) -> None:
        """Let the job write a checkpoint, within so many seconds, and begin again from there.

        Raises BeginAgain, unless it came to its own end meanwhile.
        """
        runner.request_stop(str(self.home), grace)
        self._wait(runner, grace)
        state = _read(self.home / "state.json")
        if state.get("phase") in {"succeeded", "failed", "expired"}:
            return
        self._keep(partial(mirror.push, state, final=False, tell=False), 0.0)
        if why == TAKEN_AWAY:
            time.sleep(self._notice_s)  # Modal ends this one as well, which is none of the retries
        raise BeginAgain(why)

    def _keep_all(self, mirror: Mirror, state: dict[str, Any]) -> bool:
        """Keep the results, then the verdict: nobody says that a commit is seen as one.

        What a hub gave is kept before: whoever sees the verdict may begin a job that wants it.
        """
        with contextlib.suppress(Exception):
            self._lasting.commit()
        results = self._keep(partial(mirror.push, state, final=True, tell=False), FULL_S)
        return results and self._keep(lambda: mirror.push(state, final=True) or True, FULL_S)

    def _keep(self, push: Callable[[], bool], patience_s: float) -> bool:
        """Copy and commit; what the Volume does not take now it may take later.

        A training is not given up because its Volume is full: somebody can make room meanwhile.
        False when it did not take it while patience lasted.
        """
        end = time.monotonic() + patience_s
        while True:
            try:
                if push() or self._owed:
                    self._volume.commit()
                    self._owed = False
            except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
                self._owed = True
                if self._trouble != str(error):
                    self._trouble = str(error)
                    print(f"{self._name}: the Volume takes nothing now: {error}", flush=True)
                if time.monotonic() >= end:
                    return False
            else:
                return True
            time.sleep(PUSH_S)

    def _killed(self, state: dict[str, Any], mirror: Mirror) -> dict[str, Any]:
        """The runner was killed: by a lack of memory, most likely. Some tries may mend that."""
        self._try_again(state, mirror, "the runner was killed")
        self._keep(partial(mirror.push, state, final=True, tell=False), FULL_S)
        return {"phase": "lost", "reason": f"its runner was killed {TRIES} times"}

    def _try_again(self, state: dict[str, Any], mirror: Mirror, why: str) -> None:
        """Raises BeginAgain while there are tries left."""
        kills = 1 + int(_read(self.there / KILLS).get("kills") or 0)
        self._keep(partial(self._write, KILLS, {"kills": kills}), 0.0)
        if kills < TRIES:
            self._keep(partial(mirror.push, state, final=False, tell=False), 0.0)
            raise BeginAgain(why)

    def _is_taken(self) -> bool:
        """Whether another container of this cluster was told to go: Modal then ends this one."""
        if not self._seat.cluster:
            return False
        try:
            return bool(self._control.get(self._name + TAKEN) == self._seat.cluster)
        except Exception:  # noqa: BLE001 - a provider that is silent has said nothing of it
            return False

    def _obey(self, runner: Any) -> None:
        """Lay in what was asked for since the last look; a provider that is silent has no wish."""
        try:
            asked = self._control.get(self._name)
        except Exception:  # noqa: BLE001
            return
        if not isinstance(asked, dict) or asked.get("number", 0) <= self._told:
            return
        self._told = asked["number"]
        if asked["what"] == "stop":
            runner.request_stop(str(self.home), float(asked["grace_s"]))
        elif asked["what"] == "checkpoint":
            runner.request_checkpoint(str(self.home))

    def _wait(self, runner: Any, patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if runner.status(str(self.home))["phase"] in (*ENDED, "lost"):
                return
            time.sleep(0.1)


@contextlib.contextmanager
def door(key: str) -> Iterator[dict[str, Any]]:
    """An sshd that takes this one key, behind a tunnel of Modal's; how it is reached."""
    import modal

    folder = WORK / ".door"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    host_key = folder / "host_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key)], check=True
    )
    write(folder / "authorized_keys", f"{key}\n".encode())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = f"""
ListenAddress 127.0.0.1
Port {port}
HostKey {host_key}
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding local
AllowAgentForwarding no
X11Forwarding no
GatewayPorts no
"""
    write(folder / "config", settings.encode())
    with contextlib.suppress(OSError):
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    sshd = subprocess.Popen(
        [program, "-D", "-f", str(folder / "config")],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with modal.forward(port, unencrypted=True) as tunnel:
            host, public = tunnel.tcp_socket
            user = pwd.getpwuid(os.getuid()).pw_name
            theirs = host_key.with_name("host_key.pub").read_text("ascii").strip()
            yield {"host": host, "port": public, "user": user, "key": theirs}
    finally:
        sshd.terminate()
        sshd.wait()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _phase(content: bytes) -> str:
    try:
        return str(json.loads(content)["phase"])
    except (ValueError, KeyError, TypeError):
        return ""


def _node_lost(state: dict[str, Any]) -> bool:
    """Whether the job failed since another node went without a word, its container most likely."""
    rows = state.get("nodes") or ()
    return state["phase"] == "failed" and any(row.get("phase") == "lost" for row in rows)


def _verdict(state: dict[str, Any]) -> dict[str, Any]:
    return {"phase": state["phase"], "exit_code": state.get("exit_code")}


def job(request: dict[str, Any]) -> dict[str, Any]:
    """Work on a job; see `backends.modal.launching` for the request."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return Attempt(request).run()
    except BeginAgain:
        raise
    except Exception as error:  # noqa: BLE001
        # Of one kind: an error of the SDK's own would be taken for the answer to a question.
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
