"""The first step of a job that brings its own software: a virtual environment made from its lock.

One file on the standard library, for Python 3.9 and later, run on the job's machine:

    make_environment.py LOCK PREFIX TOOLS [--python 3.11] [--index URL] [--import NAME]...

LOCK is a requirements file with every package pinned. PREFIX is made once for all jobs that have
the same lock: what is whole carries a marker, written last; what is not is begun anew. TOOLS is a
folder for uv, its cache and the Pythons it fetches, beside PREFIX so that files can be shared.
Of two that want the same environment at once one makes it and the other waits: both hold a lock of
the system, which also whatever they started holds, so that a killed maker's uv is waited for.

Where packages come from is the machine's own affair: uv is told what pip is configured with.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, NoReturn, Optional, Tuple

MARKER = "ftlaunch.json"
INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
PROBE = """
import contextlib, importlib, json, sys
failed = {}
with contextlib.redirect_stdout(sys.stderr):
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = "%s: %s" % (type(error).__name__, error)
json.dump(failed, sys.stdout)
"""


class Trouble(Exception):
    """The environment cannot be made; the message is one sentence."""


def say(text: str) -> None:
    """A line for the job's log."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Optional[List[str]] = None) -> int:
    """Make it, unless it is there; the exit code."""
    asked = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    try:
        os.makedirs(os.path.dirname(asked.prefix), mode=0o700, exist_ok=True)
        os.makedirs(asked.tools, mode=0o700, exist_ok=True)
        with alone(asked.prefix + ".lock", "this environment") as held:
            if whole(asked.prefix):
                say("environment: %s is there already" % asked.prefix)
                return 0
            try:
                make(asked, held)
            except BaseException:
                shutil.rmtree(asked.prefix, ignore_errors=True)
                raise
    except Trouble as trouble:
        say("environment: %s" % trouble)
        return 1
    except OSError as error:
        say("environment: it cannot be made: %s" % error)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Makes a job's environment.")
    made.add_argument("lock")
    made.add_argument("prefix", type=os.path.abspath)
    made.add_argument("tools", type=os.path.abspath)
    made.add_argument("--python", default="3.11")
    made.add_argument("--index", help="has the pins without a hash, if nothing configured has")
    made.add_argument("--import", dest="imports", action="append", default=[])
    return made


def interrupted(number: int, _: Any) -> NoReturn:
    """A signal ends us as an exception does, so that half of an environment is not left."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def alone(path: str, what: str) -> Any:
    """The descriptor of a lock that is held meanwhile; pass it to whatever is started."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("environment: another job makes %s; waiting for it" % what)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def whole(prefix: str) -> bool:
    """Whether an environment is there, marked, and its Python still is."""
    python = os.path.join(prefix, "bin", "python")
    return os.path.exists(os.path.join(prefix, MARKER)) and os.access(python, os.X_OK)


def make(asked: argparse.Namespace, held: int) -> None:
    """Make it, the lock being held. Raises Trouble."""
    began = time.monotonic()
    shutil.rmtree(asked.prefix, ignore_errors=True)
    if os.path.lexists(asked.prefix):
        raise Trouble("%s stands in its place and cannot be removed" % asked.prefix)
    plain, hashed = split(asked.lock)
    env = surroundings(asked.tools)
    uv = find_uv(asked.tools, env)
    say("environment: making %s" % asked.prefix)
    run([uv, "venv", "--no-project", "--python", asked.python, "--", asked.prefix], env, held)
    for name, pins, options in (("plain", plain, []), ("hashed", hashed, ["--require-hashes"])):
        if pins:
            wanted = os.path.join(asked.prefix, "%s.txt" % name)
            with open(wanted, "w", encoding="utf-8") as file:
                file.write("\n".join(pins) + "\n")
            install = [uv, "pip", "install", "--no-deps", *options, "--python"]
            install += [python_of(asked.prefix), "--requirement", wanted]
            fill(install, env, held, index=asked.index if name == "plain" else None)
    probe(asked.prefix, asked.imports, held)
    marker = {"schema": 1, "lock": os.path.basename(asked.lock), "pins": len(plain) + len(hashed)}
    finish(asked.prefix, marker)
    say("environment: made in %.0f s: %d packages" % (time.monotonic() - began, marker["pins"]))


def fill(install: List[str], env: Dict[str, str], held: int, *, index: Optional[str]) -> None:
    """Install pins from what is configured, else from `index` alone. Raises Trouble."""
    try:
        run(install, env, held)
    except Trouble:
        if index is None:
            raise
        say("environment: looking in %s" % index)
        alone_env = {key: value for key, value in env.items() if key not in INDEXES}
        run(install, {**alone_env, "UV_DEFAULT_INDEX": index}, held)


def python_of(prefix: str) -> str:
    """An environment's own interpreter."""
    return os.path.join(prefix, "bin", "python")


def finish(prefix: str, marker: Dict[str, Any]) -> None:
    """Say that the environment is whole."""
    temporary = os.path.join(prefix, ".%s" % MARKER)
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(marker, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(prefix, MARKER))


def probe(prefix: str, imports: List[str], held: int) -> None:
    """Import what must import. Raises Trouble."""
    if not imports:
        return
    say("environment: looking whether it imports %s" % ", ".join(imports))
    argv = [python_of(prefix), "-I", "-c", PROBE, *imports]
    done = subprocess.run(
        argv,
        cwd=prefix,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=(held,),
        check=False,
    )
    try:
        failed = json.loads(done.stdout)
    except ValueError:
        raise Trouble("its Python ended with code %d at the imports" % done.returncode) from None
    for name, why in failed.items():
        raise Trouble("%s does not import: %s" % (name, why))


def split(lock: str) -> Tuple[List[str], List[str]]:
    """The pins of a lock without hashes, and those with.

    They are installed apart, for with `--require-hashes` none may be without. They are written with
    `===`, since `==` would also take a local build of the version: 2.0+cpu for 2.0.
    """
    with open(lock, encoding="utf-8") as file:
        text = "\n".join(
            line for line in file.read().splitlines() if not line.lstrip().startswith("#")
        )
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    pins = [re.sub(r"^([A-Za-z0-9._\[\],-]+)\s*==(?!=)", r"\1===", line) for line in lines if line]
    return [pin for pin in pins if "--hash=" not in pin], [pin for pin in pins if "--hash=" in pin]


# ── uv ────────────────────────────────────────────────────────────────────────────────────────────


def find_uv(tools: str, env: Dict[str, str]) -> str:
    """A uv that runs: the machine's, else one of our own, fetched now. Raises Trouble."""
    own = os.path.join(tools, "uv")
    with alone(os.path.join(tools, "uv.lock"), "the tools") as held:
        for found in (shutil.which("uv"), os.path.join(own, "bin", "uv")):
            if found and works([found, "--version"]):
                return found
        shutil.rmtree(own, ignore_errors=True)
        say("environment: fetching uv")
        pip = find_pip(tools)
        run([*pip, "install", "--quiet", "--target", own, "uv"], env, held, what="uv")
    found = os.path.join(own, "bin", "uv")
    if not works([found, "--version"]):
        raise Trouble("the uv that pip has fetched does not run on this machine")
    return found


def find_pip(tools: str) -> List[str]:
    """A pip that runs: the machine's, else that of a small environment. Raises Trouble."""
    pip = [sys.executable, "-m", "pip"]
    if works([*pip, "--version"]):
        return [*pip, "--disable-pip-version-check"]
    small = os.path.join(tools, "pip")
    if works([sys.executable, "-m", "venv", "--clear", small]):
        return [python_of(small), "-m", "pip", "--disable-pip-version-check"]
    raise Trouble(
        "there is neither uv nor pip on this machine, and %s cannot make an environment; "
        "install uv there, or take an image that has pip" % sys.executable
    )


def works(argv: List[str]) -> bool:
    """Whether a command runs and ends well."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def run(argv: List[str], env: Dict[str, str], held: int, *, what: str = "it") -> None:
    """Run a command, its output going to the log. Raises Trouble."""
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, pass_fds=(held,), check=False)
    if done.returncode:
        name = " ".join([os.path.basename(argv[0]), *argv[1:3]])
        raise Trouble(
            "%s was not made: %r ended with code %d; what it said is above"
            % (what, name, done.returncode)
        )


def surroundings(tools: str) -> Dict[str, str]:
    """The variables for uv: the machine's, less what points at another Python, with pip's sources.

    What the machine's own variables say counts more. Values may hold a password: none is printed.
    """
    env = dict(os.environ)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"):
        env.pop(name, None)
    for name, folder in (("UV_CACHE_DIR", "cache"), ("UV_PYTHON_INSTALL_DIR", "python")):
        env.setdefault(name, os.path.join(tools, folder))
    env.setdefault("UV_NO_PROGRESS", "1")
    pip = pip_settings()
    if pip.get("index-url") and "UV_INDEX_URL" not in env:
        env.setdefault("UV_DEFAULT_INDEX", pip["index-url"])
    if pip.get("extra-index-url") and "UV_INDEX" not in env:
        env["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does
    if pip.get("find-links"):
        env.setdefault("UV_FIND_LINKS", ",".join(pip["find-links"].split()))
    if pip.get("cert"):
        env.setdefault("SSL_CERT_FILE", pip["cert"])
    return env


def pip_settings() -> Dict[str, str]:
    """What pip is configured with on this machine, its own variables counting most."""
    keys = ("index-url", "extra-index-url", "find-links", "cert")
    variables = {key: os.environ.get("PIP_" + key.upper().replace("-", "_")) for key in keys}
    given = {key: value for key, value in variables.items() if value is not None}
    argv = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return given
    found: Dict[str, Tuple[int, str]] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        weight = {"global": 1, "install": 2}.get(section, 0)
        with contextlib.suppress(ValueError, SyntaxError):
            if weight > found.get(key, (0, ""))[0]:
                found[key] = (weight, str(ast.literal_eval(value)))
    return {**{key: value for key, (_, value) in found.items()}, **given}


if __name__ == "__main__":
    sys.exit(main())
