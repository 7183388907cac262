"""The kinds of GPU that can be had, with what memory and time follow from.

The table is gpus.csv: one kind a row, with the source of its figures.
"""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backends.errors import BadInput

_TABLE = Path(__file__).with_name("gpus.csv")

DEFAULT_OF = {"A100": "A100-80GB", "H100": "H100-SXM", "V100": "V100-16GB"}
"""What a bare name means where memory differs: what is rented most."""


@dataclass(frozen=True)
class GpuKind:
    """A kind of GPU.

    usable_gib  what a process can have, context included; less than the sticker says
    dense       peak rate of 16-bit matrix products without sparsity, FLOP/s: bf16, or fp16 where
                the kind has no bf16
    matmul      the best rate of a large product, FLOP/s: measured, or judged from the power limit
                (the table says which)
    bandwidth   of its memory, bytes/s
    link        to its neighbours in one machine, bytes/s in each direction
    peer        it is linked to its neighbours by more than the bus
    bf16        it computes in bf16
    """

    name: str
    usable_gib: float
    dense: float
    matmul: float
    bandwidth: float
    link: float
    peer: bool
    bf16: bool
    capability: str
    source: str


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"(?i)nvidia|geforce|tesla|amd", "", name).lower())


def _of(row: dict[str, str]) -> GpuKind:
    bf16 = float(row["bf16_dense_tflops"])
    return GpuKind(
        name=row["name"],
        usable_gib=float(row["usable_gib"]),
        dense=(bf16 or float(row["fp16_dense_tflops"])) * 1e12,
        matmul=float(row["sustained_tflops"]) * 1e12,
        bandwidth=float(row["mem_bw_gb_s"]) * 1e9,
        link=float(row["link_gb_s_per_dir"]) * 1e9,
        peer="link" in row["link"] or row["link"] == "xgmi",
        bf16=bf16 > 0,
        capability=row["compute_capability"],
        source=row["source"],
    )


@cache
def _table() -> tuple[dict[str, GpuKind], dict[str, GpuKind]]:
    kinds: dict[str, GpuKind] = {}
    names: dict[str, GpuKind] = {}
    with _TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            kind = _of(row)
            kinds[kind.name] = kind
            names[_plain(kind.name)] = kind
            for alias in row["aliases"].split(","):
                names.setdefault(_plain(alias), kind)
    for name, meant in DEFAULT_OF.items():
        names[_plain(name)] = kinds[meant]
    return kinds, names


def kinds() -> tuple[GpuKind, ...]:
    """Every kind, in the table's order."""
    return tuple(_table()[0].values())


LARGER = 1.2
"""Times the memory that a provider says: a kind with more than that is another one of its name."""


def known(name: str) -> GpuKind | None:
    """The kind that `name` spells, in any provider's spelling; None when it is not in the table."""
    names = _table()[1]
    plain = _plain(name)
    for wanted in (plain, re.sub(r"(sxm\d?|hbm\d?e?|pcie)", "", plain), f"rtx{plain}"):
        if wanted in names:
            return names[wanted]
    return None


def find(name: str, memory_gib: float | None = None) -> GpuKind:
    """The same; raises BadInput with near names.

    memory_gib  what the provider says that it has: an A100 is one of two sizes
    """
    kind = known(name)
    if kind is not None and memory_gib is not None and kind.usable_gib > LARGER * memory_gib:
        name = f"{name}-{memory_gib:.0f}GB"
        kind = known(name)
    if kind is not None:
        return kind
    raise BadInput(
        f"no figures are known of a GPU called {name!r}", hint=f"known are {', '.join(near(name))}"
    )


def near(name: str) -> tuple[str, ...]:
    """The kinds of the table whose names come near, the nearest first; all of them for none."""
    every, names = _table()
    close = difflib.get_close_matches(_plain(name), list(names), n=3, cutoff=0.5)
    return tuple(dict.fromkeys(names[each].name for each in close)) or tuple(every)
