"""`ftlaunch completion`: the line that turns on tab completion."""

from __future__ import annotations

import click

_LINES = {
    "bash": 'eval "$(_FTLAUNCH_COMPLETE=bash_source ftlaunch)"',
    "zsh": 'eval "$(_FTLAUNCH_COMPLETE=zsh_source ftlaunch)"',
    "fish": "_FTLAUNCH_COMPLETE=fish_source ftlaunch | source",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_LINES)))
def completion(shell: str) -> None:
    """Print the line for SHELL; put it into the shell's start-up file."""
    click.echo(_LINES[shell])
