"""What is handed to a backend: a job, its files, its environment, its secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from backends.errors import BadInput
from backends.plan import Plan

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""What every provider takes as a name: Jarvis Labs allows 40 characters, Kubernetes no capitals."""


@dataclass(frozen=True)
class LocalFile:
    """One file of this machine, and where it belongs in the run directory."""

    here: Path
    at: PurePosixPath
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class LocalTree:
    """Files of this machine: exactly these travel, nothing else."""

    files: tuple[LocalFile, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Files:
    """A run directory kept by a backend; it may outlive the lease that filled it.

    `data` is the backend's own note of where it is: strings only, so that it can be stored.
    """

    backend: str
    id: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attached:
    """Files of an earlier job, seen by the new one read-only at `at`, without an upload."""

    files: Files
    at: PurePosixPath


@dataclass(frozen=True)
class Cache:
    """A folder of this machine that many jobs share: a base model, a data set.

    `key` is the digest of its content: a backend that holds the key already sends nothing.
    The job sees it read-only at `at`; the places of the tree's files are relative to that.
    """

    key: str
    tree: LocalTree
    at: PurePosixPath


@dataclass(frozen=True)
class Environment:
    """The software the commands need, as data; a backend takes the form that suits it.

    prefix  an environment already made on this machine (its `bin` goes first on PATH)
    lock    a complete requirements file, to install where there is none
    hints   per provider: image, template name, …
    """

    prefix: Path | None = None
    lock: Path | None = None
    hints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Secrets(Mapping[str, str]):
    """Values that reach the job as environment variables only; their text never shows."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not written anywhere, so they do not pickle")


@dataclass(frozen=True)
class Job:
    """A folder, the commands to run in it, and what must hold meanwhile.

    name          the provider-side tag, unique: lower-case letters, digits, dashes, at most 40
    inputs        laid into the run directory before the first step
    kept_secrets  names of secrets that the provider itself keeps; their values are variables of
                  the job, below those of `env` and `secrets`
    outputs       globs, relative to the run directory, of what the manifest lists
    deadline      the job ends by itself after this long, counted from the runner's start
    nodes         machines that run it together: each has its own run directory and runner, and
                  every step runs on all; results, checkpoints, metrics and the log are the first
                  one's
    ports         ports the job will serve on its own loopback interface, for `Backend.tunnel`
    self_release  this long after the job has ended, what bills stops by itself, also when nobody
                  has come for it; the files are kept. None: it bills until it is released. A
                  backend that needs the account's key on the machine for that puts it there only
                  because this is set.
    """

    name: str
    plan: Plan
    inputs: tuple[LocalTree | Attached, ...] = ()
    environment: Environment = field(default_factory=Environment)
    caches: tuple[Cache, ...] = ()
    nodes: int = 1
    ports: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    kept_secrets: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("output/**",)
    deadline: timedelta | None = None
    self_release: timedelta | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(
                f"{self.name!r} cannot be a job's name",
                hint="use lower-case letters, digits and dashes, at most 40, starting with a "
                "letter or digit",
            )
