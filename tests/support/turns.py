"""Stories with real axolotl that take turns: one a run, chosen by the commit.

Each is the whole job on one provider's loopback cloud, and takes ten minutes and more. The one on
this machine is told in every run. FTLAUNCH_TURN names another one.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

STORIES = ("jarvis", "modal", "skypilot")


def off(files: set[str]) -> set[str]:
    """Of the names of test files those whose turn it is not; none where not all were asked for."""
    stories = {f"test_{name}_axolotl.py" for name in STORIES}
    return stories - {f"test_{turn()}_axolotl.py"} if stories <= files else set()


@cache
def turn() -> str:
    """Whose turn it is."""
    named = os.environ.get("FTLAUNCH_TURN", "")
    if named:
        if named not in STORIES:
            raise ValueError(f"FTLAUNCH_TURN is {named!r}; it is one of {', '.join(STORIES)}")
        return named
    return STORIES[int(_commit() or "0", 16) % len(STORIES)]


def _commit() -> str:
    """Empty where this is no checkout, or git is not here."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return asked.stdout.strip()


def said() -> str:
    """For the head of a run."""
    return f"of the stories of rented machines all but {turn()}'s"
