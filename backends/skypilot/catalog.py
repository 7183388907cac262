"""SkyPilot's own price lists, read where it keeps them; and a few rows for when there is none.

One CSV a cloud, `~/.sky/catalogs/v8/CLOUD/vms.csv`: the price is of a whole instance and an hour.
Reading them needs neither a server nor a key, and takes no SDK.
"""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from backends.errors import Refused

FOLDER = Path(".sky") / "catalogs" / "v8"
FETCH = "sky show-gpus"
"""What makes SkyPilot fetch its lists."""

_CLOUDS = frozenset(
    {
        *("aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "lambda"),
        *("mithril", "nebius", "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb"),
        *("shadeform", "vast", "verda", "yotta"),
    }
)
"""Of SkyPilot 0.14.1, those with price lists; where it is installed, it is asked which it has."""


class Instance(NamedTuple):
    """A row: something a cloud rents by the hour. `price` and `spot` are dollars, or None."""

    cloud: str
    name: str
    gpu: str | None
    gpus: int
    cpus: float | None
    memory_gib: float | None
    price: float | None
    spot: float | None
    region: str


@dataclass(frozen=True)
class Listing:
    """A cloud's rows, where they were read, and when that list was made."""

    cloud: str
    rows: tuple[Instance, ...]
    source: str
    read_at: datetime | None


def listings(home: Path) -> list[Listing]:
    """The lists on this computer, of clouds that the installed SkyPilot can use.

    Without any, some rows of one cloud that came with ftlaunch: their source says so.
    Raises Refused, naming the file, for a list of which nothing can be read.
    """
    known = _known()
    found = []
    for path in sorted((home / FOLDER).glob("*/vms.csv")):
        cloud = path.parent.name
        if cloud not in known:
            continue
        rows = tuple(_rows(cloud, path))
        if not rows:
            raise Refused(
                f"SkyPilot's price list {path} is damaged, or empty",
                hint=f"remove it; SkyPilot fetches it again with: {FETCH}",
            )
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        found.append(Listing(cloud, rows, f"SkyPilot's list of {cloud}", made))
    return found or [Listing("lambda", _LAMBDA, PARTIAL, None)]


PARTIAL = f"SkyPilot's list of Lambda only, in part; for the rest run: {FETCH}"
"""Their day is not known: they were copied from SkyPilot's public list without it."""


def _known() -> frozenset[str]:
    """The clouds of the installed SkyPilot, by its files: to import it takes seconds."""
    try:
        found = importlib.util.find_spec("sky")
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        return _CLOUDS
    names = Path(found.submodule_search_locations[0], "catalog").glob("*_catalog.py")
    return frozenset(path.name.removesuffix("_catalog.py") for path in names) or _CLOUDS


def _rows(cloud: str, path: Path) -> Iterator[Instance]:
    """What can be read of a list; a row that is odd hides no other."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            at = {name: number for number, name in enumerate(next(lines, []))}
            if not at.keys() >= _NEEDED:
                return
            width = len(at)
            name, gpu, count = (at[key] for key in ("InstanceType", "AcceleratorName", _COUNT))
            # A column that a list lacks is read from the empty cell that is put behind each row.
            others = ("vCPUs", "MemoryGiB", "Price", "SpotPrice", "Region")
            cpus, memory, price, spot, region = (at.get(key, -1) for key in others)
            # There are tens of thousands of rows, and few sizes among them.
            size, whole = cache(_number), cache(_whole)
            for row in lines:
                row.append("")
                if len(row) <= width:
                    row.extend([""] * (width + 1 - len(row)))
                try:
                    yield Instance(
                        cloud,
                        row[name],
                        row[gpu] or None,
                        whole(row[count]),
                        size(row[cpus]),
                        size(row[memory]),
                        float(row[price]) if row[price] else None,
                        float(row[spot]) if row[spot] else None,
                        row[region],
                    )
                except (ValueError, OverflowError):
                    continue
    except (OSError, UnicodeDecodeError, csv.Error):
        return


_COUNT = "AcceleratorCount"
_NEEDED = {"InstanceType", "AcceleratorName", _COUNT}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _whole(text: str) -> int:
    return int(float(text or 0))


def plain(gpu: str) -> str:
    """A GPU's name for comparing: `a100-80gb`, `A100-80GB` and `A100_80GB` are one."""
    return re.sub(r"[^a-z0-9]+", "", gpu.lower()).removeprefix("nvidia")


_LAMBDA = tuple(
    Instance("lambda", name, gpu, count, cpus, memory, price, None, "")
    for name, gpu, count, cpus, memory, price in (
        ("cpu_4x_general", None, 0, 4.0, 16.0, 0.20),
        ("gpu_1x_a6000", "A6000", 1, 14.0, 100.0, 1.09),
        ("gpu_2x_a6000", "A6000", 2, 28.0, 200.0, 2.18),
        ("gpu_4x_a6000", "A6000", 4, 56.0, 400.0, 4.36),
        ("gpu_1x_gh200", "GH200", 1, 64.0, 432.0, 1.49),
        ("gpu_8x_b200_sxm6", "B200", 8, 208.0, 2900.0, 39.92),
        ("gpu_8x_v100", "V100", 8, 92.0, 448.0, 6.32),
    )
)
