"""The environment variables a job starts with, and the machine it runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.job import Job
from backends.offer import Need

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "OMP_NUM_THREADS", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HF_HOME", "HF_ENDPOINT", "HF_HUB_DISABLE_IMPLICIT_TOKEN"),
        *_PROXIES,
        *(name.upper() for name in _PROXIES),
    }
)
_PASSED_FAMILIES = ("LC_", "CUDA_", "NVIDIA_", "HF_HUB_")


def variables(job: Job, caller: Mapping[str, str]) -> dict[str, str]:
    """What the runner and its steps see: a short list of the caller's variables, then the job's.

    A list of what passes, not of what does not: a key in the caller's terminal that the job did not
    ask for stays out of it.
    """
    passed = {name: value for name, value in caller.items() if _passes(name)}
    found = {**passed, **job.env, **job.secrets}
    if job.environment.prefix is not None:
        prefix = str(job.environment.prefix)
        found["VIRTUAL_ENV"] = prefix
        found["PATH"] = os.pathsep.join((f"{prefix}/bin", found.get("PATH") or os.defpath))
    found.setdefault("PATH", os.defpath)
    return found


def _passes(name: str) -> bool:
    if name in _PASSED:
        return True
    return name.startswith(_PASSED_FAMILIES) and not name.endswith(("_TOKEN", "_KEY", "_SECRET"))


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine, as its driver names and numbers it."""

    name: str
    memory_gib: float
    index: int = 0


def cpus() -> int:
    """The cores this process may use, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs of this machine; none where no driver answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    argv = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout.decode("utf-8", "replace"))


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """What `nvidia-smi` printed, one line a GPU: a name, a comma, its memory in MiB."""
    found = []
    for index, line in enumerate(text.splitlines()):
        name, _, memory = line.rpartition(",")
        try:
            found.append(Gpu(name.strip(), float(memory) / 1024, index))
        except ValueError:
            continue
    return tuple(found)


def wanted(need: Need, present: Sequence[Gpu]) -> tuple[Gpu, ...] | None:
    """The GPUs here that the need takes; None when it asks for what is not here."""
    if not need.gpus:
        return tuple(present)
    for kind, count in need.gpus:
        fitting = tuple(gpu for gpu in present if same_kind(kind, gpu.name))
        if len(fitting) >= count:
            return fitting[:count]
    return None


def same_kind(asked: str, name: str) -> bool:
    """Whether what a user calls `A100-80GB` or `rtx4090` is what the driver calls it.

    Every word asked for must be among the driver's words, digits and letters apart:
    `NVIDIA A100-SXM4-80GB` is an `A100`, an `A100-80GB` and an `A100 SXM4`, and no `A10`.
    """
    words = set(_words(name))
    return all(word in words for word in _words(asked))


def _words(text: str) -> list[str]:
    plain = re.sub(r"(?<=[a-z]{3})(?=\d)", " ", text.lower())  # rtx4090 is "rtx 4090" to a driver
    return re.findall(r"[a-z0-9]+", plain)


def memory_gib() -> float:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
