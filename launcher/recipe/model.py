"""What a launch recipe may say, beside the axolotl config it names."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from launcher.on_finish import OnFinish
from launcher.recipe import units

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_A_SECRET_ITSELF = re.compile(
    r"(hf_|ghp_|gho_|github_pat_|sk_live_|wandb_v\d|sk-|xox[bp]-|AKIA)[A-Za-z0-9_-]{12,}"
    r"|[0-9a-f]{32,}|[A-Za-z0-9+/=_-]{64,}"
)
_SECRET_NAME = re.compile(
    r"(HF|HUGGING_?FACE_?HUB|WANDB|GITHUB|GH|MODAL|ACCESS|AUTH|SESSION|BEARER)_TOKEN"
    r"|.*(_|^)(API_?KEY|SECRET|SECRET_KEY|SECRET_ACCESS_KEY|ACCESS_TOKEN|AUTH_TOKEN|PASSWORD)"
    r"|AWS_SESSION_TOKEN|MODAL_TOKEN_(ID|SECRET)"
)


def holds_a_secret(name: str) -> bool:
    """Whether a variable of this name usually holds a secret."""
    return _SECRET_NAME.fullmatch(name.upper()) is not None


_KEPT_SECRET = re.compile(r"(?P<backend>[a-z]+):(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})")


def kept_secret(text: str) -> tuple[str, str] | None:
    """The backend and the name of a secret that a provider keeps: `modal:my-keys`; else None."""
    found = _KEPT_SECRET.fullmatch(text)
    return None if found is None else (found["backend"], found["name"])


_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/-]*(:[\w.-]+)?@sha256:[0-9a-f]{64}")

_MODEL_SOURCE = re.compile(r"pypi:[A-Za-z0-9][A-Za-z0-9._-]*==[^#\s]+#\S.*")

Duration = Annotated[timedelta, BeforeValidator(units.duration)]
Dollars = Annotated[Decimal, BeforeValidator(units.dollars)]
Gibibytes = Annotated[int, BeforeValidator(units.gibibytes)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]
Switch = Annotated[bool, Field(strict=True)]


def _words(value: Any) -> Any:
    """One text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _ending(value: Any) -> Any:
    """One of the three words; said as a sentence of ours."""
    names = [each.value for each in OnFinish]
    if value is not None and value not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}")
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hardware(_Part):
    """The machine asked for.

    gpus    kinds with counts, the most wanted first; empty for any, or none at all
    memory  GiB of main memory
    disk    GiB
    recover the job goes on by itself when the machine is taken away
    store   the address of a bucket, for what such a job goes on from
    """

    gpus: tuple[tuple[str, int], ...] = Field(default=(), alias="gpu")
    cpu: AtLeastOne | None = None
    memory: Gibibytes | None = None
    disk: Gibibytes | None = None
    spot: Switch = False
    recover: Switch = False
    store: str = ""
    regions: Words = ()
    nodes: AtLeastOne = 1

    @field_validator("store")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9]+://[^/\s]\S*", value):
            raise ValueError(f"{value!r} is no bucket's address: one is s3://BUCKET/PREFIX")
        return value

    @field_validator("gpus", mode="before")
    @classmethod
    def _ranked(cls, value: Any) -> Any:
        if value is None:
            return ()
        entries = value if isinstance(value, list | tuple) else [value]
        return tuple(each if isinstance(each, tuple) else units.gpu(each) for each in entries)


class Budget(_Part):
    """Limits: max_cost and max_price (an hour) in US dollars, max_duration as a time."""

    max_cost: Dollars | None = None
    max_price: Dollars | None = None
    max_duration: Duration | None = None


class Steps(_Part):
    """Which parts of the job are run."""

    preprocess: Switch = True
    train: Switch = True
    merge: Switch = True
    evaluate: Switch = False


class Profile(_Part):
    """Another size of the same recipe, taken with `--profile NAME`.

    set       values for config keys, put over the recipe's own `set`
    hardware  takes the place of the recipe's
    steps     takes the place of the recipe's
    """

    set: dict[str, Any] = Field(default_factory=dict)
    hardware: Hardware | None = None
    steps: Steps | None = None


class LaunchRecipe(_Part):
    """All a launch recipe can say; a plain axolotl config gives one with nothing said.

    config     the axolotl config: a path, an https URL, a bundled name, or the mapping itself
    data       takes the place of the first data set's path
    set        values for config keys, `a.b: c`
    secrets    names of environment variables of this machine, whose values are never written; or of
               secrets that a provider keeps: `modal:NAME`
    artifacts  globs of what to pull; empty for the usual
    include    globs, relative to the recipe's folder, of further files that travel
    models     model id -> `pypi:PACKAGE==VERSION#FILE`, a package that brings the model
    image      a published image with axolotl in it, by its digest, where a provider takes images
    on_finish  destroy, pause or keep: what becomes of the machine when the results are here
    profiles   other sizes of it, by name: `cpu` is one that needs no GPU
    """

    description: str = ""
    config: str | dict[str, Any] | None = None
    data: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    hardware: Hardware = Field(default_factory=Hardware)
    backend: str | None = None
    on_finish: Annotated[OnFinish | None, BeforeValidator(_ending)] = None
    budget: Budget = Field(default_factory=Budget)
    steps: Steps = Field(default_factory=Steps)
    env: dict[str, str] = Field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    artifacts: Words = ()
    include: Words = ()
    image: str | None = None
    models: dict[str, str] = Field(default_factory=dict)
    profiles: dict[str, Profile] = Field(default_factory=dict)

    @field_validator("secrets", mode="before")
    @classmethod
    def _names_only(cls, value: Any) -> Any:
        if isinstance(value, str) and _VARIABLE.fullmatch(value):
            value = [value]
        if not isinstance(value, list | tuple):
            raise ValueError(_ONLY_NAMES)  # noqa: TRY004 - pydantic turns only ValueError into ours
        for name in value:
            if isinstance(name, str) and kept_secret(name):
                continue
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                raise ValueError(_ONLY_NAMES)
            if _A_SECRET_ITSELF.fullmatch(name):
                raise ValueError(f"what stands here looks like a secret itself; {_ONLY_NAMES}")
        return value

    @field_validator("env")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of an environment variable")
            if text and holds_a_secret(name):
                raise ValueError(
                    f"{name} holds a secret, and env is written down; name it under secrets instead"
                )
            if "\0" in text:
                raise ValueError(f"the value of {name} holds a NUL character")
        return value

    @field_validator("include", "artifacts")
    @classmethod
    def _relative(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            if not glob or "\0" in glob or PurePosixPath(glob).is_absolute() or glob[0] == "~":
                raise ValueError(f"{glob!r} is not a path relative to the recipe's folder")
        return value

    @field_validator("image")
    @classmethod
    def _by_digest(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.fullmatch(value):
            raise ValueError(
                f"{value!r} is not of the form OWNER/NAME@sha256:DIGEST: "
                "without its digest a name may be another image tomorrow"
            )
        return value

    @field_validator("models")
    @classmethod
    def _sources(cls, value: dict[str, str]) -> dict[str, str]:
        for source in value.values():
            if not _MODEL_SOURCE.fullmatch(source):
                raise ValueError(f"{source!r} is not of the form pypi:PACKAGE==VERSION#FILE")
        return value


_ONLY_NAMES = (
    "secrets is a list of names of environment variables, without values: "
    "a value is taken from your own environment at launch and never written down"
)

KEYS = frozenset(LaunchRecipe.model_fields)
"""The keys that make a file a launch recipe."""
