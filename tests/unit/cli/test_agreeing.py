"""A question that nobody can answer is one clear sentence, and a no is a no."""

from __future__ import annotations

import io

import click
import pytest

from backends.errors import BadInput
from launcher.cli.agreeing import confirm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answers", "raised"),
    [
        (io.StringIO("y\n"), None),
        (io.StringIO("n\n"), click.Abort),
        (io.StringIO(""), BadInput),
        (Terminal("y\n"), None),
        (Terminal("n\n"), click.Abort),
        (Terminal(""), click.Abort),
    ],
)
def test_only_where_nobody_is_there_it_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, answers: io.StringIO, raised: type[Exception] | None
) -> None:
    monkeypatch.setattr("sys.stdin", answers)
    if raised is None:
        confirm("go on?")
        return
    with pytest.raises(raised) as error:
        confirm("go on?")
    if isinstance(error.value, BadInput):
        assert "-y" in error.value.hint
