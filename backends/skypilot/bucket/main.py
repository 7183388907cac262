"""What `begin.py` becomes on a machine: work on a job, or bring one that has ended."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from . import HALF_NAME
from .attempt import Attempt, listen
from .bringing import Torn, bring
from .objects import Objects

CREDENTIALS = (".aws", ".config/gcloud", ".azure")
"""Where SkyPilot, or the user, puts what a cloud's library looks for."""


def main(argv: list[str]) -> int:
    """`work|bring URL JOB ROOT PYTHON`; the exit code."""
    command, url, job, root, python = argv
    asked = listen() if command == "work" else []
    home = os.environ.get("HOME")
    half = os.environ.pop(HALF_NAME, "")
    if own := home_with_credentials():
        os.environ["HOME"] = own
    try:
        objects = Objects(url)
        if command == "bring":
            brought = Path(root) / "runs" / job / ".brought"
            if not brought.exists():
                bring(objects, job, Path(root))
                brought.touch()
            return 0
        how = {"python": python, "half": half}
        return Attempt(objects, job, Path(root), user_home=home, asked=asked, **how).run()
    except Torn as torn:
        return _told(f"{job}: {torn}")
    except Exception as error:  # noqa: BLE001 - a library's own, of which there are many
        return _told(f"{job}: {url} cannot be used from this machine: {error!r}")


def _told(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return 70


def home_with_credentials() -> str:
    """The user's own HOME, where only that has credentials: on Slurm SkyPilot sets another."""
    given = os.environ.get("HOME", "")
    own = pwd.getpwuid(os.getuid()).pw_dir
    if any((Path(given) / name).exists() for name in CREDENTIALS):
        return ""
    return own if any((Path(own) / name).exists() for name in CREDENTIALS) else ""
