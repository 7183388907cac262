"""Several containers of one function at Modal: which there can be, and how they are asked for.

What Modal's guide says of them (https://modal.com/docs/guide/multi-node-clusters, read 2026-11-27):
each container has all GPUs of its machine, there are none without GPUs, and at most 32 machines in
a cluster. It names no kinds of GPU. These are the ones whose machines have eight throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from backends.errors import Refused, Unsupported

KINDS = ("A100-40GB", "A100-80GB", "H100", "H200", "B200", "B300")
WHOLE = 8
"""GPUs of one machine."""
MOST = 32
"""Machines of one cluster."""


def require(nodes: int, gpus: Iterable[tuple[str, int]]) -> None:
    """Raises Unsupported where Modal has no cluster of so many machines with these GPUs."""
    asked = list(gpus)
    odd = [f"{kind}:{n}" for kind, n in asked if kind not in KINDS or n != WHOLE]
    if odd or not asked:
        raise Unsupported(
            f"several nodes at Modal are whole machines, with {WHOLE} GPUs each "
            f"({', '.join(KINDS)}), and this asks for {nodes} with {odd[0] if odd else 'no GPU'}",
            hint=f"write gpu: H100:{WHOLE} (or -g H100:{WHOLE}), or choose another backend: "
            "-b skypilot",
        )
    if nodes > MOST:
        raise Unsupported(
            f"a cluster at Modal has at most {MOST} nodes, and this asks for {nodes}",
            hint=f"write nodes: {MOST}, or choose another backend: -b skypilot",
        )


def require_words(nodes: int, words: str) -> None:
    """The same for an offer's GPUs, as Modal takes them: `H100!:8,H200:8`."""
    pairs = [word.partition(":") for word in words.split(",") if word]
    require(nodes, [(kind.rstrip("!"), int(count or 1)) for kind, _, count in pairs])


def clustered(sdk: Any, entry: Callable[..., Any], nodes: int) -> Any:
    """A function whose call is of so many containers. Raises Refused for an SDK without them."""
    if not hasattr(sdk, "clustered"):
        raise Refused(
            "this version of the Modal SDK has no clusters, and the job asks for several nodes",
            hint="renew it with: pip install --upgrade modal",
        )
    return sdk.clustered(size=nodes)(entry)
