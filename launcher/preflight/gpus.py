"""What a kind of GPU can do, by its compute capability.

The capabilities are those of NVIDIA's list of CUDA GPUs (developer.nvidia.com/cuda-gpus); B300's
is from the CUDA 13 toolkit's `sm_103`. A name is found without its maker, its series, its memory
and its socket: "NVIDIA A100-SXM4-80GB" is A100.
"""

from __future__ import annotations

import re

_CAPABILITIES: dict[tuple[int, int], tuple[str, ...]] = {
    (6, 0): ("P100",),
    (6, 1): ("P4", "P40"),
    (7, 0): ("V100",),
    (7, 5): ("T4", "RTX6000", "RTX5000", "RTX2080TI"),
    (8, 0): ("A100", "A30"),
    (8, 6): (
        *("A2", "A10", "A10G", "A16", "A40", "A4000", "A4500", "A5000", "A6000"),
        *("RTX3060", "RTX3070", "RTX3080", "RTX3090", "RTX3090TI"),
    ),
    (8, 9): (
        *("L4", "L40", "L40S", "RTX4070", "RTX4080", "RTX4090"),
        *("RTX4000ADA", "RTX4500ADA", "RTX5000ADA", "RTX6000ADA"),
    ),
    (9, 0): ("H100", "H200", "H20", "H800", "GH200"),
    (10, 0): ("B200", "GB200"),
    (10, 3): ("B300", "GB300"),
    (12, 0): ("RTX5090", "RTX5080", "RTX5070", "RTXPRO6000", "RTXPRO5000", "RTXPRO4500"),
}
_BY_NAME = {name: capability for capability, names in _CAPABILITIES.items() for name in names}

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
        if spelling in _BY_NAME:
            return _BY_NAME[spelling]
    return None


def spelled(pair: tuple[int, int]) -> str:
    """`8.0`, as NVIDIA writes it."""
    return f"{pair[0]}.{pair[1]}"
