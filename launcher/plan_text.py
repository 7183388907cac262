"""Plans as text: commands the way a person would type them, names that cannot break a line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from backends.offer import Offer
from backends.plan import Argument, NodeFact, RunPath


def arguments(argv: Sequence[Argument]) -> list[str]:
    """The argv with `$RUN` for the run directory, `$NODE_RANK` and such for what nodes know.

    Both are known only where it runs.
    """
    return [_argument(item) for item in argv]


def _argument(item: Argument) -> str:
    if isinstance(item, NodeFact):
        return f"$NODE_{item.what.upper()}"
    return f"{item.prefix}$RUN/{item.path}" if isinstance(item, RunPath) else item


def command_text(argv: Sequence[Argument]) -> str:
    """The command as one would type it."""
    return " ".join(
        item
        if item.startswith(("$RUN", "$NODE_", "--")) and "'" not in item and " " not in item
        else shlex.quote(item)
        for item in arguments(argv)
    )


def hardware(offer: Offer) -> str:
    """What an offer is, in few words: `H100 x 2`, `2 nodes x H100:8`."""
    if offer.gpu is None:
        return "CPU only"
    if offer.nodes > 1:
        return f"{offer.nodes} nodes x {offer.gpu}:{offer.count}"
    return f"{offer.gpu} x {offer.count}"


def printable(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
