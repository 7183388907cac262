"""The NVIDIA GPUs of this machine, as its driver tells them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.errors import Refused

FIELDS = ("index", "uuid", "name", "memory.total", "compute_cap", "driver_version")
TIMEOUT_S = 20
"""The driver needs seconds when no process holds the GPU awake."""

OLDEST_DRIVER = 580
OLDEST_CAPABILITY = (7, 5)
"""CUDA 13 needs driver 580, and dropped what came before Turing."""


@dataclass(frozen=True)
class Gpu:
    """One GPU; `memory_mib` as the driver counts it, `compute_capability` like (9, 0)."""

    name: str
    memory_mib: int
    compute_capability: tuple[int, int]
    driver: str


def detect(environ: Mapping[str, str] | None = None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible; empty when there is none or no driver."""
    environ = os.environ if environ is None else environ
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return []
    argv = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode != 0:
        return []
    return parse(answer.stdout, visible=environ.get("CUDA_VISIBLE_DEVICES"))


def parse(text: str, *, visible: str | None = None) -> list[Gpu]:
    """The GPUs in what `nvidia-smi` printed; `visible` is CUDA_VISIBLE_DEVICES, None when unset."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    known = [row for row in rows if len(row) == len(FIELDS)]
    if visible is None:
        return [gpu for row in known if (gpu := _gpu(row))]
    chosen: list[Gpu] = []
    for wanted in (part.strip() for part in visible.split(",")):
        # CUDA reads the list up to the first entry that is no device of this machine.
        row = next((row for row in known if _is(row, wanted)), None)
        gpu = _gpu(row) if row else None
        if gpu is None:
            break
        chosen.append(gpu)
    return chosen


def _is(row: Sequence[str], wanted: str) -> bool:
    index, uuid = row[0], row[1]
    return wanted == index or (wanted.startswith("GPU-") and uuid.startswith(wanted))


def _gpu(row: Sequence[str]) -> Gpu | None:
    _, _, name, memory, capability, driver = row
    try:
        major, minor = capability.split(".")
        return Gpu(name, int(memory), (int(major), int(minor)), driver)
    except ValueError:  # "[N/A]": a driver too old to know the field, or a GPU that has fallen off
        return None


def require_cuda13(gpus: Sequence[Gpu]) -> None:
    """Raise Refused when these GPUs, or their driver, are too old for the CUDA build of torch."""
    for gpu in gpus:
        major = gpu.driver.partition(".")[0]
        if major.isdigit() and int(major) < OLDEST_DRIVER:
            raise Refused(
                f"the NVIDIA driver {gpu.driver} is too old: the CUDA 13 build of torch needs "
                f"{OLDEST_DRIVER} or newer",
                hint="update the driver, or hide the GPU with CUDA_VISIBLE_DEVICES= to use the CPU",
            )
        if gpu.compute_capability < OLDEST_CAPABILITY:
            have = ".".join(map(str, gpu.compute_capability))
            raise Refused(
                f"{gpu.name} has compute capability {have}: the CUDA 13 build of torch needs "
                f"{'.'.join(map(str, OLDEST_CAPABILITY))} or newer",
                hint="hide the GPU with CUDA_VISIBLE_DEVICES= to use the CPU, or take another",
            )
