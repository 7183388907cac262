"""The `ftlaunch` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; every way it can end has its exit code (backends/errors.py)."""
    from launcher.cli import cli
    from launcher.cli.ending import run

    sys.exit(run(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
