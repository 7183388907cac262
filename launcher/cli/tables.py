"""Rows in columns."""

from __future__ import annotations

from collections.abc import Sequence

import click

from launcher.plan_text import printable


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns; odd characters in names cannot break the table."""
    shown = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
