"""The generation of a kind of GPU, as its compute capability: what it can do.

Of a kind in the table, the table says it. Here stand the others, as NVIDIA lists them
(developer.nvidia.com/cuda-gpus). A name is found without its maker, its series, its memory and its
socket: "NVIDIA A100-SXM4-80GB" is A100.
"""

from __future__ import annotations

import re

from launcher.gpus import table

_CAPABILITIES: dict[tuple[int, int], tuple[str, ...]] = {
    (6, 0): ("P100",),
    (6, 1): ("P4", "P40"),
    (7, 5): ("RTX6000", "RTX5000", "RTX2080TI"),
    (8, 0): ("A30",),
    (8, 6): (
        *("A2", "A16", "A4000", "A4500"),
        *("RTX3060", "RTX3070", "RTX3080", "RTX3090TI"),
    ),
    (8, 9): (*("L40", "RTX4070", "RTX4080", "RTX4000ADA", "RTX4500ADA", "RTX5000ADA"),),
    (9, 0): ("H800",),
    (10, 3): ("GB300",),
    (12, 0): ("RTX5080", "RTX5070", "RTXPRO5000", "RTXPRO4500"),
}
ELSEWHERE = {name: capability for capability, names in _CAPABILITIES.items() for name in names}
"""The capability of each kind that is not in the table."""

_NOISE = re.compile(
    r"NVIDIA|TESLA|GEFORCE|BLACKWELL|WORKSTATION|SERVER|EDITION|QUADRO|HBM\d*E?|"
    r"SXM\d*|PCIE|NVL|MAXQ|\d+GI?B|[^A-Z0-9]"
)


def capability(name: str) -> tuple[int, int] | None:
    """(major, minor) of a GPU by its name; None for a name that is not known here."""
    # The memory stands apart ("A100-80GB"), so that it is cut before what joins the words is.
    text = re.sub(r"[-_ ]\d+GI?B?\b", "", name.upper())
    plain = _NOISE.sub("", text)
    for spelling in (plain, f"RTX{plain}", plain.removeprefix("RTX")):
        if spelling in ELSEWHERE:
            return ELSEWHERE[spelling]
    kind = table.known(name) or table.known(plain)
    major, _, minor = ("" if kind is None else kind.capability).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def spelled(pair: tuple[int, int]) -> str:
    """`8.0`, as NVIDIA writes it."""
    return f"{pair[0]}.{pair[1]}"
