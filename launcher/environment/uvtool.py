"""uv as a child process: its output goes to a log, its progress to the user, its errors to us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.errors import Refused
from backends.protocol import Progress
from launcher.environment import pipconf

TAIL_LINES = 60

_TOLD = re.compile(r"^\s*(Downloading|Downloaded|Building|Built|Resolved|Prepared|Installed)\b")

_UNREACHABLE = re.compile(
    r"error sending request|failed to fetch|dns error|connection refused|timed out|"
    r"could not connect|network (connectivity )?(is|was) disabled|tls|certificate",
    re.IGNORECASE,
)

_REASONS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"no space left|os error 28|disk quota", re.IGNORECASE),
        "the disk filled up while {what} was installed",
        "make room, or set FTLAUNCH_CACHE_DIR (and UV_CACHE_DIR) to a larger disk",
    ),
    (
        re.compile(r"hash mismatch", re.IGNORECASE),
        "{what} was not installed: a package index served something else than what is locked",
        "if you use a mirror, it may have rebuilt packages",
    ),
    (
        _UNREACHABLE,
        "{what} was not installed: the package index could not be reached",
        "check the network; UV_DEFAULT_INDEX names another index, SSL_CERT_FILE another authority",
    ),
)


@dataclass(frozen=True)
class Workplace:
    """Where uv works: its folder, its log, the lock it keeps alive, and who is told."""

    cwd: Path
    log: Path
    held: int
    progress: Progress


class UvFailed(Exception):
    """uv ended with an error; `text` is the end of what it printed."""

    def __init__(self, returncode: int, text: str) -> None:
        super().__init__(f"exit code {returncode}")
        self.returncode = returncode
        self.text = text

    @property
    def unreachable(self) -> bool:
        """An index did not answer."""
        return _UNREACHABLE.search(self.text) is not None

    @property
    def unresolved(self) -> bool:
        """The wanted version is nowhere, or has no build for this machine."""
        return (
            re.search(r"no solution found|no wheels? with|not found in", self.text, re.IGNORECASE)
            is not None
        )

    def refusal(self, what: str, log: Path) -> Refused:
        """The one sentence for the user."""
        for pattern, sentence, hint in _REASONS:
            if pattern.search(self.text):
                return Refused(
                    sentence.format(what=what), hint=f"{hint}; all that uv said: {str(log)!r}"
                )
        lines = [line.strip(" ×╰─▶│├") for line in self.text.splitlines() if line.strip()]
        # "error: …" says what failed, "cause: …" below it says why.
        errors = [line for line in lines if line.startswith(("cause", "error"))] or lines
        said = min(errors, default=f"exit code {self.returncode}", key=_cause_first)
        return Refused(f"{what} was not installed: uv says {said!r}", hint=f"its log: {str(log)!r}")


def _cause_first(line: str) -> bool:
    return not line.startswith("cause")


def uv_binary() -> Path:
    """The uv that came with us; raises Refused when its package is broken."""
    import uv

    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise Refused(
            "the uv program is missing from the package of that name",
            hint="install it again: python -m pip install --force-reinstall uv",
        ) from error


def surroundings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables uv gets: the user's, less what points at other environments.

    What pip knows of indexes and wheel pages is passed as variables, since it may hold a password,
    and an argument can be read by every user of the machine.
    """
    env = dict(os.environ if environ is None else environ)
    for name in (
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONHOME",
        "PYTHONPATH",
        "UV_PROJECT_ENVIRONMENT",
    ):
        env.pop(name, None)
    if not any(name in env for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        index = pipconf.index_url(env)
        if index:
            env["UV_DEFAULT_INDEX"] = index
    pages = pipconf.find_links(env)
    if pages and "UV_FIND_LINKS" not in env:
        env["UV_FIND_LINKS"] = ",".join(pages)
    return env


def run(arguments: Sequence[str], place: Workplace, *, env: Mapping[str, str]) -> None:
    """Run `uv ARGUMENTS` to its end; raises UvFailed.

    It gets its own process group, so that a Ctrl-C meant for us reaches it once, by us.
    """
    argv = [str(uv_binary()), *arguments]
    tail: list[str] = []
    with place.log.open("a", encoding="utf-8") as log:
        log.write(f"$ uv {' '.join(arguments)}\n")
        child = subprocess.Popen(
            argv,
            cwd=place.cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=(place.held,),
        )
        try:
            assert child.stdout is not None
            with child.stdout:
                for line in child.stdout:
                    log.write(line)
                    log.flush()
                    tail = [*tail[1 - TAIL_LINES :], line]
                    if _TOLD.match(line):
                        place.progress(line.strip())
            returncode = child.wait()
        except BaseException:
            _end(child)
            raise
    if returncode != 0:
        raise UvFailed(returncode, "".join(tail))


def _end(child: subprocess.Popen[str]) -> None:
    """End the child and what it started, and wait: nothing may write on after our lock is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(timeout=10)
            break
        except subprocess.TimeoutExpired:
            continue
    child.wait()
