"""The software a job needs on a machine: what the machine has, or an environment made from a lock.

What to look for and what to install is data of the job (`Environment.hints` and `.lock`); nothing
of it is known here. Hints, all optional:
    probe    distributions that the machine's own `python3` must have to be used as it is:
             "name==1.0 other==2.1"
    python   the version of Python for an environment made from the lock; "3.11"
    imports  modules that must import in it: "name other"
    index    where pins without a hash are looked for when the machine's own sources lack them
    lasting  variables that name folders kept for later jobs of the machine: "NAME=folder OTHER=x"
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends.errors import Refused
from backends.job import Job, LocalFile, LocalTree
from backends.plan import Argument, RunPath, Step
from backends.ssh import programs
from backends.ssh.host import Host
from backends.ssh.workplace import Workplace

STEP = "environment"
"""The name of the step that makes the environment, and of the folder its files lie in."""

_SOON = timedelta(minutes=2)
_MAKER = Path(__file__).with_name("make_environment.py")
_SCRIPT = 'printf "%s\\n" "$PATH"; exec python3 -c "$0" "$@"'
_PROBE = """
import json, shutil, sys
from importlib import metadata
asked = json.loads(sys.argv[1])
found = {}
for name in asked["distributions"]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
missing = [name for name in asked["programs"] if shutil.which(name) is None]
print(json.dumps({"versions": found, "missing": missing}))
"""


@dataclass(frozen=True)
class Software:
    """What a job gets to run with.

    job   the same job, with the step, its files and the variables put in
    step  makes the environment, before all others; None when nothing has to be made
    env   variables of the job: `PATH` with the environment first, `VIRTUAL_ENV`
    how   one phrase for a person, to be noted
    """

    job: Job
    step: Step | None
    env: Mapping[str, str]
    how: str


@dataclass(frozen=True)
class _Machine:
    """What a machine answered.

    path   its login shell's PATH
    lacks  what its own `python3` lacks of what was asked for, in words; empty when nothing
    """

    path: str
    lacks: tuple[str, ...]


def plan_software(place: Workplace, job: Job, provider: str) -> Software:
    """Decide what the job runs with on this machine: one round trip, or none.

    Raises SshError; Refused when the lock cannot be read.
    """
    hints = job.environment.hints.get(provider, {})
    job = replace(job, env={**_lasting(place, hints), **job.env})
    wanted, lock = hints.get("probe", "").split(), job.environment.lock
    if not wanted and lock is None:
        return Software(job, None, {}, "the machine's own software")
    machine = _look(place.host, job, wanted)
    if wanted and not machine.lacks:
        return Software(job, None, {}, f"the machine's own software: {' '.join(wanted)}")
    lacking = f"; the machine's own Python lacks {', '.join(machine.lacks)}" if wanted else ""
    if lock is None:
        return Software(job, None, {}, f"the machine's own software{lacking}")
    made = _made(place, job, lock, hints, path=job.env.get("PATH") or machine.path)
    return replace(made, how=made.how + lacking)


def _lasting(place: Workplace, hints: Mapping[str, str]) -> dict[str, str]:
    """Variables with folders beside the run directories, where they outlive a job and a pause."""
    pairs = (one.partition("=") for one in hints.get("lasting", "").split())
    return {name: str(place.root / "lasting" / folder) for name, _, folder in pairs}


def _made(
    place: Workplace, job: Job, lock: Path, hints: Mapping[str, str], *, path: str
) -> Software:
    program = programs.python_of(place.host)
    made = making(lock, hints, program=program, below=lambda at: str(place.root / at))
    prefix = place.root / made.prefix
    env = {
        "VIRTUAL_ENV": str(prefix),
        "PATH": ":".join((str(prefix / "bin"), path or os.defpath)),
    }
    with_step = replace(
        job,
        plan=replace(job.plan, steps=(made.step, *job.plan.steps)),
        inputs=(*job.inputs, made.files),
        env={**job.env, **env},
    )
    return Software(with_step, made.step, env, made.how)


@dataclass(frozen=True)
class Making:
    """How an environment is made from a lock, on a machine that nobody has seen yet, perhaps.

    prefix  where it will be, below the workplace's root
    files   what the step wants in the run directory
    how     one phrase for a person
    """

    step: Step
    prefix: str
    files: LocalTree
    how: str


def making(
    lock: Path, hints: Mapping[str, str], *, program: str, below: Callable[[str], Argument]
) -> Making:
    """The step that makes it.

    program  the machine's own Python
    below    makes an argument of a path below the workplace's root
    Raises Refused when the lock cannot be read.
    """
    python = hints.get("python", "3.11")
    pins = _file(lock, "lock.txt")
    prefix = f"envs/{pins.sha256[:16]}-py{python}"
    step = Step(
        STEP,
        (
            program,
            "-I",
            RunPath(f"{STEP}/{_MAKER.name}"),
            RunPath(f"{STEP}/lock.txt"),
            below(prefix),
            below("tools"),
            f"--python={python}",
            *([f"--index={hints['index']}"] if "index" in hints else []),
            *(f"--import={name}" for name in hints.get("imports", "").split()),
        ),
    )
    how = f"an environment made from the lock {pins.sha256[:16]} with Python {python}"
    return Making(step, prefix, LocalTree((_file(_MAKER, _MAKER.name), pins)), how)


def bare_programs(job: Job) -> list[str]:
    """The commands that a job looks up on its machine's PATH."""
    bare = {step.argv[0] for step in job.plan.steps if isinstance(step.argv[0], str)}
    return sorted(name for name in bare if "/" not in name)


def _look(host: Host, job: Job, wanted: list[str]) -> _Machine:
    asked = {
        "distributions": [one.partition("==")[0] for one in wanted],
        "programs": bare_programs(job),
    }
    done = host.run(["sh", "-c", _SCRIPT, _PROBE, json.dumps(asked)], timeout=_SOON)
    path, _, said = done.out.decode("utf-8", "surrogateescape").partition("\n")
    try:
        # A module that prints when Python starts comes before our line.
        answer = json.loads(said.strip().rpartition("\n")[2])
        versions, missing = answer["versions"], answer["missing"]
    except (ValueError, KeyError, TypeError):
        return _Machine(path, ("a python3 that answers",))
    lacks = [one for one in wanted if not _satisfied(one, versions)]
    return _Machine(path, (*lacks, *(f"the command {name}" for name in missing)))


def _satisfied(one: str, versions: Mapping[str, str | None]) -> bool:
    """Whether what was found is what was asked for; a local build (1.0+cu12) of it is."""
    name, _, version = one.partition("==")
    found = versions.get(name)
    return found is not None and version in {"", found, found.partition("+")[0]}


def _file(here: Path, name: str) -> LocalFile:
    try:
        content = here.read_bytes()
    except OSError as error:
        raise Refused(f"the lock {str(here)!r} cannot be read: {error.strerror}") from error
    at = PurePosixPath(STEP) / name
    return LocalFile(here, at, len(content), hashlib.sha256(content).hexdigest())
