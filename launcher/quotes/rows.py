"""The lengths of a data set's rows, and what comes of them when they are packed or padded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from launcher.estimate import Setup

PACKED = 0.96
"""The part of packed rows that is not padding."""

UNSEEN = 1.3
"""Where only a part was looked at, the longest row is taken to be so much longer than there."""

_DRAWN = 20_000
"""Rows that are put into batches to see how much is padding."""


@dataclass(frozen=True)
class Counted:
    """One data set.

    lengths  tokens of each row that was looked at, as it is fed: two for a preference pair
    rows     of the whole set, pairs counted once
    times    how many times as many rows there are as were looked at
    """

    lengths: Sequence[float]
    rows: int
    times: float = 1.0


@dataclass(frozen=True)
class Data:
    """The training data, or what is known of it.

    rows    of one epoch
    tokens  of one epoch as they are fed, padding included
    longest tokens of the longest row, cut at the sequence length
    fed     tokens of one row as it is fed, on average
    how     where this comes from, in a phrase
    """

    rows: int
    tokens: int
    longest: int
    fed: float
    how: str


def fed(sets: Sequence[Counted], setup: Setup, how: str) -> Data:
    """Rows as they are fed: packed full, or padded to the longest of their batch."""
    rows = sum(each.rows for each in sets)
    cut = [(min(n, setup.seq_len), each.times) for each in sets for n in each.lengths]
    if setup.packing:
        tokens = round(sum(length * times for length, times in cut) / PACKED)
        return Data(rows, tokens, setup.seq_len, setup.seq_len, how)
    passed = sum(times for _, times in cut)
    drawn = _drawn(cut)
    size = setup.micro_batch
    batches = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    width = fmean(max(batch) for batch in batches)
    longest = max(
        min(n * (UNSEEN if each.times > 1 else 1), setup.seq_len)
        for each in sets
        for n in each.lengths
    )
    return Data(rows, round(passed * width), round(longest), width, how)


def _drawn(cut: Sequence[tuple[float, float]]) -> list[float]:
    """Lengths in the order that chance gives them, each as often as it stands for."""
    chance = random.Random(0)  # noqa: S311 - an order, no secret
    lengths = [length for length, _ in cut]
    if all(times == cut[0][1] for _, times in cut):
        return chance.sample(lengths, len(lengths))
    return chance.choices(lengths, [times for _, times in cut], k=_DRAWN)
