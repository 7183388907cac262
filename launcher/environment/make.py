"""Environments on disk: made once, in place, with a stamp written last.

A folder without its stamp is unfinished, whoever began it: it is removed and made anew. A virtual
environment holds absolute paths and cannot be moved, so it is built where it stays, alone under a
lock (`cache.alone`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backends.errors import BadInput, Refused
from backends.protocol import Progress, silent
from launcher.environment import cache, uvtool
from launcher.environment.install import install
from launcher.environment.spec import Spec

STAMP = "ftlaunch.json"
SCHEMA = 1
PROBE_TIMEOUT_S = 600
"""Importing axolotl takes 10 to 20 s; on a busy machine with a cold disk, minutes."""


@dataclass(frozen=True)
class Installed:
    """An environment on this machine.

    state       "ready", "broken" (something of it is gone) or "unfinished"
    size_bytes  of its files, as they were when it was made
    """

    name: str
    prefix: Path
    state: str
    flavour: str = ""
    extras: tuple[str, ...] = ()
    python: str = ""
    made_at: str = ""
    size_bytes: int = 0
    versions: tuple[tuple[str, str], ...] = ()


def envs_dir() -> Path:
    """Where all managed environments are."""
    return cache.cache_dir() / "envs"


def prefix_of(spec: Spec) -> Path:
    """Where the environment is, or will be."""
    return envs_dir() / spec.name


def python_of(prefix: Path) -> Path:
    """The environment's own interpreter."""
    return prefix / "bin" / "python"


def ensure(spec: Spec, *, progress: Progress = silent) -> Path:
    """The environment's folder, made or re-made if need be.

    Raises Refused: no disk, no network, no build for this machine, or a result that does not work.
    """
    prefix = prefix_of(spec)
    if healthy(prefix):
        return prefix
    folder = cache.made(prefix.parent)
    if "\n" in str(folder):
        raise Refused(
            f"a Python environment cannot live in {str(folder)!r}: there is a line break in it",
            hint=f"set {cache.VARIABLE} to another folder",
        )
    waiting = "waiting for another ftlaunch that is making this environment"
    with cache.alone(folder / f"{spec.name}.lock", waiting=waiting, progress=progress) as held:
        if not healthy(prefix):  # else the other process has made it
            _make(spec, prefix, held, progress)
    return prefix


def _make(spec: Spec, prefix: Path, held: int, progress: Progress) -> None:
    """Make it, the lock being held; a failure leaves nothing but uv's log."""
    folder = prefix.parent
    _clear(prefix)
    cache.need_room(folder, spec.room_bytes, what=f"the {spec.flavour} environment")
    log = folder / f"{spec.name}.log"
    log.unlink(missing_ok=True)
    place = uvtool.Workplace(cwd=folder, log=log, held=held, progress=progress)
    try:
        install(spec, prefix, place)
        progress("checking that it imports")
        _stamp(prefix, spec, probe(prefix, spec, held=(held,)))
    except OSError as error:
        _clear(prefix)
        raise Refused(
            f"the environment cannot be written to {str(prefix)!r}: {error.strerror}",
            hint=f"make room or set {cache.VARIABLE} to another folder",
        ) from error
    except BaseException:
        _clear(prefix)
        raise


def probe(prefix: Path, spec: Spec, *, held: tuple[int, ...] = ()) -> dict[str, str]:
    """Import what must import, in the environment itself, and compare versions with the lock.

    Takes as long as the imports take; `held` are descriptors of locks it keeps alive.
    Returns distribution to version; raises Refused.
    """
    worker = Path(__file__).with_name("probe_worker.py")
    argv = [str(python_of(prefix)), "-I", str(worker), *spec.imports]
    env = {**uvtool.surroundings(), "AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    hint = "make it again with: ftlaunch env make"
    try:
        ended = subprocess.run(
            argv,
            cwd=prefix,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            pass_fds=held,
        )
        answer = json.loads(ended.stdout)
    except OSError as error:
        raise Refused(f"the environment {prefix.name} has no working Python", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"the environment {prefix.name} did not import within {PROBE_TIMEOUT_S} s", hint=hint
        ) from error
    except json.JSONDecodeError as error:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Refused(
            f"the environment {prefix.name} fails its check (exit code {ended.returncode}): {last}",
            hint=hint,
        ) from error
    return _judged(answer, prefix, spec, hint)


def _judged(answer: dict[str, Any], prefix: Path, spec: Spec, hint: str) -> dict[str, str]:
    for module, reason in answer["failed"].items():
        raise Refused(f"in {prefix.name}, {module} does not import: {reason}", hint=hint)
    versions: dict[str, str] = answer["versions"]
    wanted = spec.pins.versions
    for name, have in versions.items():
        if wanted.get(name, have) != have:
            raise Refused(
                f"{prefix.name} has {name} {have}, and the lock says {wanted[name]}", hint=hint
            )
    for name in spec.imports:
        if name in wanted and name not in versions:
            raise Refused(f"{prefix.name} lacks {name}, which the lock names", hint=hint)
    return versions


def verify(spec: Spec) -> dict[str, str]:
    """`probe` the environment of `spec`; one that fails loses its stamp, so that it is re-made."""
    prefix = prefix_of(spec)
    if not healthy(prefix):
        raise Refused(
            f"the environment {spec.name} is not there, or something of it is missing",
            hint="it is made when it is next needed, or now with: ftlaunch env make",
        )
    try:
        return probe(prefix, spec)
    except Refused:
        (prefix / STAMP).unlink(missing_ok=True)
        raise


def healthy(prefix: Path) -> bool:
    """A quick look, for every use: the stamp, a Python that resolves, and all packages in place."""
    stamp = _read_stamp(prefix)
    if stamp is None or not os.access(python_of(prefix), os.X_OK):
        return False
    try:
        present = {path.name for path in (prefix / stamp["site"]).iterdir()}
    except OSError:
        return False
    return present.issuperset(stamp["packages"])


def inspect() -> list[Installed]:
    """Every environment under the cache folder, whatever its state, by name."""
    folder = envs_dir()
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [_installed(path) for path in found]


def remove(name: str, *, progress: Progress = silent) -> None:
    """Remove the environment `name`, as `inspect` shows it; raises BadInput when there is none."""
    known = {item.name: item for item in inspect()}
    if name not in known:
        have = ", ".join(known) or "none"
        raise BadInput(f"there is no environment {name!r}", hint=f"environments here: {have}")
    waiting = "waiting for another ftlaunch that is making this environment"
    with cache.alone(envs_dir() / f"{name}.lock", waiting=waiting, progress=progress):
        _clear(known[name].prefix)
        (envs_dir() / f"{name}.log").unlink(missing_ok=True)


def _installed(prefix: Path) -> Installed:
    stamp = _read_stamp(prefix)
    if stamp is None:
        return Installed(name=prefix.name, prefix=prefix, state="unfinished")
    return Installed(
        name=prefix.name,
        prefix=prefix,
        state="ready" if healthy(prefix) else "broken",
        flavour=stamp["flavour"],
        extras=tuple(stamp["extras"]),
        python=stamp["python"],
        made_at=stamp["made_at"],
        size_bytes=stamp["size_bytes"],
        versions=tuple(stamp["versions"].items()),
    )


def _read_stamp(prefix: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((prefix / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and stamp.get("schema") == SCHEMA else None


def _stamp(prefix: Path, spec: Spec, versions: dict[str, str]) -> None:
    """Say that the environment is whole: written beside and renamed, after all else."""
    site = Path("lib") / f"python{'.'.join(map(str, spec.python_version))}" / "site-packages"
    stamp = {
        "schema": SCHEMA,
        "flavour": spec.flavour,
        "extras": sorted(spec.extras),
        "digest": spec.digest,
        "python": ".".join(map(str, spec.python_version)),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "site": str(site),
        "packages": sorted(path.name for path in (prefix / site).iterdir()),
        "size_bytes": _size(prefix),
        "versions": versions,
    }
    unfinished = prefix / f"{STAMP}.new"
    unfinished.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    unfinished.replace(prefix / STAMP)


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(parent, name)).st_size for name in names)  # noqa: PTH118
    return total


def _clear(prefix: Path) -> None:
    """Remove the folder, its stamp first: a removal cut short leaves an unfinished one."""
    if prefix.is_symlink() or not prefix.is_dir():
        prefix.unlink(missing_ok=True)
        return
    try:
        (prefix / STAMP).unlink(missing_ok=True)
        shutil.rmtree(prefix)
    except OSError as error:
        raise Refused(
            f"the old environment {str(prefix)!r} cannot be removed: {error.strerror}",
            hint="remove it by hand",
        ) from error
