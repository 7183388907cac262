"""How a command ends: one clear sentence, the way out, the right exit code, no traceback."""

from __future__ import annotations

import os
import sqlite3
import traceback
from collections.abc import Sequence

import click

from backends.errors import FtlaunchError, Refused
from launcher import places

INTERRUPTED = 130


def run(command: click.Command, argv: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    debug = "--debug" in argv or bool(os.environ.get("FTLAUNCH_DEBUG"))
    try:
        result = command.main(list(argv), prog_name="ftlaunch", standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FtlaunchError as error:
        if debug:
            traceback.print_exception(error)
        tell(error)
        return error.exit_code
    except SystemExit as ended:
        # click ends by itself when the reader went away (`ftlaunch ps | head`).
        return ended.code if isinstance(ended.code, int) else 1
    except sqlite3.Error as error:
        click.echo(f"ftlaunch: the store cannot be used: {error}", err=True)
        click.echo(f"  look at the disk that holds {places.state_dir()}", err=True)
        return Refused.exit_code
    except Exception as error:
        if debug:
            raise
        click.echo(f"ftlaunch: this should not have happened: {error!r}", err=True)
        click.echo("  please report it, with what --debug adds", err=True)
        return 1
    return result if isinstance(result, int) else 0


def tell(error: FtlaunchError) -> None:
    """Print an error as a person should meet it."""
    click.echo(f"ftlaunch: {error.message}", err=True)
    for line in error.hint.splitlines():
        click.echo(f"  {line}", err=True)
