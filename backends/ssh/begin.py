"""Becomes a job's runner, with the variables that `place.give` has left for it.

    python3 -I begin.py GIVEN HOME

For a machine on which something else (a queue, say) decides when and under whom a job runs. Of its
own variables only those stay that say which GPUs are the job's, and which of its nodes this is.
One file on the standard library, for Python 3.9 and later. Whoever comes second finds nothing, and
has nothing to do: the runner is started once.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import List

PLACED = re.compile(r"(CUDA|NVIDIA|ROCR|HIP)_VISIBLE_DEVICES|FTLAUNCH_NODE_(RANK|ADDRESSES)")


def main(argv: List[str]) -> int:
    """Take what was given, and run the job in the foreground."""
    given, home = argv
    try:
        with open(given, "rb") as file:
            found = json.loads(file.read())
        os.unlink(given)  # it holds the job's secrets
    except FileNotFoundError:
        return 0
    env = {os.fsencode(k): os.fsencode(v) for k, v in found["env"].items()}
    env.update({k: v for k, v in os.environb.items() if PLACED.fullmatch(os.fsdecode(k))})
    python = found["python"]
    os.chdir(home)
    runner = os.path.join(home, "runner.py")
    return os.execve(python, [python, "-I", runner, "run", "--", home], env)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
