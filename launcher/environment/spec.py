"""Which environment a recipe needs: the flavour of torch, the extras, the lock, the Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from backends.errors import Refused
from launcher.bundled import configs_dir
from launcher.environment import lockfile
from launcher.environment.uvtool import uv_binary

Flavour = Literal["cpu", "cu130"]

PYTHONS = ((3, 11), (3, 12))
"""Those torch and axolotl both have wheels for; the first is what everything is tested with."""

IMPORTS = ("axolotl", "torch", "transformers", "peft", "accelerate", "gguf", "axolotl.cli.train")

ROOM_BYTES: dict[str, int] = {"cpu": 4_500_000_000, "cu130": 8_500_000_000}
"""Disk that making one takes; they were measured at 3.6 and 6.9 GB when made."""

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

_FLASH = frozenset({"flash_attention_2", "flash_attention_3", "flash_attention_4"})


@dataclass(frozen=True)
class Spec:
    """One environment, before it is made.

    flavour     which build of torch
    extras      of axolotl, part of the lock
    lock        the file of pins; `digest` is over its pins, not its comments
    python      a path, or a version for uv to find or fetch
    imports     modules that must import; the distribution of the same name has the lock's version
    room_bytes  free disk needed to make it
    notes       what the user should know about this choice
    """

    flavour: str
    lock: Path
    python: str
    python_version: tuple[int, int]
    extras: frozenset[str] = frozenset()
    imports: tuple[str, ...] = IMPORTS
    room_bytes: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def pins(self) -> lockfile.Lock:
        """The lock's content; raises Refused when it cannot be read."""
        try:
            return lockfile.read(self.lock)
        except (OSError, ValueError) as error:
            raise Refused(
                f"the lock {str(self.lock)!r} cannot be read: {error}",
                hint="it is part of ftlaunch: install ftlaunch again",
            ) from error

    @property
    def digest(self) -> str:
        """Names the lock's content."""
        return self.pins.digest

    @property
    def name(self) -> str:
        """The folder's name: another lock, flavour or Python is another environment."""
        variant = "-".join([self.flavour, *sorted(self.extras)])
        return f"{variant}-{self.digest[:12]}-py{''.join(map(str, self.python_version))}"


def choose(config: Mapping[str, Any], *, gpu: bool) -> Spec:
    """The environment for an axolotl config on a machine with or without an NVIDIA GPU.

    Raises Refused for a config whose extras no lock can hold there.
    """
    flavour: Flavour = "cu130" if gpu else "cpu"
    extras = required_extras(config, gpu=gpu)
    if "deepspeed" in extras and not gpu:
        raise Refused(
            "the recipe's deepspeed needs a GPU, and the environment without one has no deepspeed",
            hint="run it where there is a GPU, or leave it out with --set deepspeed=null",
        )
    notes = _attention_notes() if "flash-attn" in extras else ()
    locked = extras - {"flash-attn"}
    python, version = _python()
    return Spec(
        flavour=flavour,
        lock=lock_path(flavour, locked),
        python=python,
        python_version=version,
        extras=frozenset(locked),
        imports=IMPORTS,
        room_bytes=ROOM_BYTES[flavour],
        notes=notes,
    )


def required_extras(config: Mapping[str, Any], *, gpu: bool = True) -> set[str]:
    """What the config needs beside axolotl itself: any of `deepspeed` and `flash-attn`.

    Without a GPU axolotl never loads flash attention, so there it is not needed.
    """
    extras = set()
    if config.get("deepspeed"):
        extras.add("deepspeed")
    flash = (
        config.get("flash_attention") is True or str(config.get("attn_implementation")) in _FLASH
    )
    if flash and gpu:
        extras.add("flash-attn")
    return extras


def lock_path(flavour: str, extras: frozenset[str] | set[str] = frozenset()) -> Path:
    """The lock that holds this flavour with these extras."""
    return configs_dir() / "env" / f"{'-'.join([f'axolotl-{flavour}', *sorted(extras)])}.txt"


def _attention_notes() -> tuple[str, ...]:
    """flash-attn is source that a CUDA compiler turns into a build for one torch: no lock holds it.

    axolotl 0.19 does without: where the package is missing it takes the same kernel, built for the
    locked torch, from the Hugging Face hub, and stops before training where it cannot.
    """
    if any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in OFFLINE):
        raise Refused(
            "flash attention comes from the Hugging Face hub, and HF_HUB_OFFLINE forbids asking it",
            hint="use --set flash_attention=null --set attn_implementation=sdpa, or allow the hub",
        )
    return ("flash attention: its kernel is taken from the Hugging Face hub when training starts",)


def _python() -> tuple[str, tuple[int, int]]:
    """A Python the locks are made for: the launcher's own, else one that uv finds or fetches."""
    own = (sys.version_info[0], sys.version_info[1])
    for version in PYTHONS:
        if version == own:
            return sys.executable, version
        found = _find(version)
        if found:
            return found, version
    return _dotted(PYTHONS[0]), PYTHONS[0]


def _find(version: tuple[int, int]) -> str:
    argv = [str(uv_binary()), "python", "find", "--no-project", "--no-python-downloads"]
    answer = subprocess.run(
        [*argv, "--system", _dotted(version)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
