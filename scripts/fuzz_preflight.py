"""Look at recipes and data that were bent by chance: nothing may break, hang, or be written.

    python scripts/fuzz_preflight.py [NUMBER] [--seed SEED] [--minutes MINUTES]

Each of NUMBER (default 100,000) sound recipes of the benchmark's corpus is bent in its text, its
values or its data, and looked at by `validate`, and one in three by `migrate`, as a user would have
it. What either says is not judged, only that it says it: an exception that is not one of ours, more
than LONGEST_S seconds, a file that is written, a process or a connection is a failure, and
hypothesis then prints the smallest recipe that shows it; of one that hangs, the first. Exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backends.errors import FtlaunchError
from benchmarks.preflight_good import Case, aged, good
from launcher.cli.migrate import migrate
from launcher.cli.options import Gpu
from launcher.cli.validate import validate

LONGEST_S = 20.0
"""Of the process's own time: no recipe of the corpus takes more than a fiftieth of a second."""
SILENT_S = 200.0
"""By the clock, for what waits and works nothing: a busy machine gives a process little time."""

GPUS = ("A100-80GB", "T4", "H100", "cpu", "Zeus", "")

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DEEDS = frozenset({
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate",
    "os.chmod", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree",
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "socket.connect",
    "socket.getaddrinfo", "sqlite3.connect", "tempfile.mkstemp", "tempfile.mkdtemp",
})  # fmt: skip


class Hung(BaseException):
    """A look took longer than LONGEST_S. No `except Exception` may take it for its own."""


@dataclass
class Watch:
    """What a look does to the world; the hook cannot be taken off again, so it is told when."""

    on: bool = False
    deeds: list[str] = field(default_factory=list)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Write down what a look should not do."""
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = set(str(mode)) & set("wax+") if mode else flags & _WRITES
            if writes and path != os.devnull:
                self.deeds.append(f"open {path!r}")
        elif event in _DEEDS:
            self.deeds.append(f"{event} {arguments!r}"[:300])


WATCH = Watch()


@dataclass(frozen=True)
class Mutant:
    """A recipe and its data files, as bytes, and what they are looked at for."""

    recipe: bytes
    files: tuple[tuple[str, bytes], ...]
    gpu: str
    spot: bool
    as_json: bool
    migrate: bool


def _scalars() -> st.SearchStrategy[Any]:
    numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**63, 10**400, 1e308])
    words = st.sampled_from([
        "", " ", "~", "null", "true", "auto", "no", "-", "{", "[", "!!", "&a", "*a", "/", ".", "..",
        "../x", "~/x", "/dev/zero", "/dev/stdin", "/proc/self/mem", "https://x/y", "s3://x", "a/b",
        "chat.jsonl", "r.yml", "alpaca", "chat_template", "sharegpt", "{{ x", "%s", "\0", "\ud800",
        "qlora", "1e400", "0x10", "1_0", "2026-01-01", "NaN", ".inf", "a" * 5000,
    ])  # fmt: skip
    return st.none() | st.booleans() | numbers | words | st.text(max_size=20)


VALUES: st.SearchStrategy[Any] = st.recursive(
    _scalars(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
CASES = good()
KEYS = sorted({key for case in CASES for key in yaml.safe_load(case.text)})
_QUICK: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@st.composite
def mutants(draw: st.DrawFn) -> Mutant:
    """A sound recipe, or one of 2024, with one to four things bent."""
    case: Case = draw(st.sampled_from(CASES))
    text = aged(case) if draw(st.booleans()) else case.text
    recipe = text.encode()
    files = {name: content.encode() for name, content in case.files.items()}
    for _ in range(draw(st.integers(1, 4))):
        which = draw(st.sampled_from(["value", "bytes", "lines", "row", "data"]))
        if which == "value":
            recipe = _bent_value(draw, recipe)
        elif which in {"bytes", "lines"}:
            recipe = _bent_text(draw, recipe)
        elif files:
            name = draw(st.sampled_from(sorted(files)))
            bend = _bent_row if which == "row" else _bent_text
            files[name] = bend(draw, files[name])
    return Mutant(
        recipe=recipe,
        files=tuple(files.items()),
        gpu=draw(st.sampled_from(GPUS)),
        spot=draw(st.booleans()),
        as_json=draw(st.booleans()),
        migrate=draw(st.integers(0, 2)) == 0,
    )


def _bent_value(draw: st.DrawFn, recipe: bytes) -> bytes:
    """Another value under one key, at any depth."""
    try:
        config = yaml.load(recipe, _QUICK)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, RecursionError):
        return recipe
    if not isinstance(config, dict) or not config:
        return recipe
    here: Any = config
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = draw(st.sampled_from(keys))
        if not isinstance(here[key], dict | list) or not here[key] or draw(st.booleans()):
            break
        here = here[key]
    here[key] = draw(VALUES)
    if draw(st.integers(0, 3)) == 0:
        config[draw(st.sampled_from(KEYS))] = draw(VALUES)
    try:
        return yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode(
            "utf-8", "surrogatepass"
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        return recipe


def _bent_text(draw: st.DrawFn, text: bytes) -> bytes:
    """Bytes put in, taken out or doubled; lines in another order."""
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, 40)))
    how = draw(st.sampled_from(["in", "out", "double", "swap", "cut"]))
    if how == "in":
        put = draw(st.binary(max_size=12) | st.text(max_size=12).map(_encoded))
        return text[:start] + put + text[start:]
    if how == "out":
        return text[:start] + text[end:]
    if how == "double":
        return text[:end] + text[start:]
    if how == "cut":
        return text[:start]
    lines = text.splitlines(keepends=True)
    draw(st.randoms(use_true_random=False)).shuffle(lines)
    return b"".join(lines)


def _bent_row(draw: st.DrawFn, data: bytes) -> bytes:
    """Another value in one row, or in its place."""
    lines = data.splitlines()
    if not lines:
        return data
    at = draw(st.integers(0, len(lines) - 1))
    try:
        row = json.loads(lines[at])
    except (ValueError, RecursionError):
        return data
    if isinstance(row, dict) and row and draw(st.booleans()):
        row[draw(st.sampled_from(sorted(row)))] = draw(VALUES)
    else:
        row = draw(VALUES)
    lines[at] = _encoded(json.dumps(row, default=str))
    return b"\n".join(lines) + b"\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Within: what is done to the world is written down, and what hangs is broken off."""

    def hung(_signal: int, _frame: FrameType | None) -> None:
        raise Hung(
            f"a look took longer than {LONGEST_S:.0f} seconds, or {SILENT_S:.0f} by the clock"
        )

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, LONGEST_S),
        (signal.ITIMER_REAL, signal.SIGALRM, SILENT_S),
    )
    before = [(number, signal.signal(number, hung)) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    WATCH.deeds.clear()
    WATCH.on = True
    try:
        yield
    finally:
        WATCH.on = False
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)


def look(mutant: Mutant, folder: Path) -> None:
    """Validate and migrate it there. Raises what must not be raised, and AssertionError."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in mutant.files:
        (folder / name).write_bytes(content)
    (folder / "r.yml").write_bytes(mutant.recipe)
    gpus = Gpu().convert(mutant.gpu, None, None) if mutant.gpu else ()
    assert validate.callback is not None
    assert migrate.callback is not None
    out = io.StringIO()
    with contextlib.redirect_stdout(out), watched():
        with contextlib.suppress(FtlaunchError):
            validate.callback(
                recipe="r.yml", profile=None, sets=(), data=None, gpus=gpus,
                spot=mutant.spot, deep=False, online=False, backend=None, secrets=(),
                as_json=mutant.as_json,
            )  # fmt: skip
        with contextlib.suppress(FtlaunchError):
            if mutant.migrate:
                migrate.callback(recipe="r.yml", write=False, as_json=mutant.as_json)
    assert not WATCH.deeds, f"it did something: {WATCH.deeds[:5]}"


def prepared() -> None:
    """Set this process up: no bytecode, no colours, every write and connection seen."""
    sys.dont_write_bytecode = True
    sys.addaudithook(WATCH.hook)


def main(argv: Sequence[str]) -> int:
    """Bend and look; prints how many there were."""
    parser = argparse.ArgumentParser(description="bend recipes and data, and look at them")
    parser.add_argument("number", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    given_ = parser.parse_args(argv)
    prepared()
    began, looked = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "above", "here")  # so that `..` is a folder of ours
        folder.mkdir(parents=True)
        os.chdir(folder)

        @seed(given_.seed)
        @settings(
            max_examples=given_.number,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(mutants())
        def bend(mutant: Mutant) -> None:
            nonlocal looked
            if time.monotonic() - began > given_.minutes * 60:
                return
            looked += 1
            try:
                look(mutant, folder)
            except Hung:
                print(mutant, file=sys.stderr)  # making it smaller would take as long each time
                raise

        try:
            bend()
        except BaseException:
            print(f"failed, after {looked:,}", file=sys.stderr)
            raise
        finally:
            os.chdir("/")
    took = (time.monotonic() - began) / 60
    print(f"looked at {looked:,} recipes in {took:.1f} minutes, seed {given_.seed}: none broke")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
