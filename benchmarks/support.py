"""The tests' sshd and proxy, found where pytest finds them."""

from __future__ import annotations

import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from sshd import Sshd, missing_parts  # noqa: E402 - only now it can be found

__all__ = ["SUPPORT", "Sshd", "missing_parts"]
