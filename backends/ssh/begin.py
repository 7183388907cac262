"""Becomes a job's runner, with the variables that `place.give` has left for it.

    python3 -I begin.py GIVEN HOME [--again]

For a machine on which something else (a queue, say) decides when and under whom a job runs. Of its
own variables only those stay that say which GPUs are the job's, and which of its nodes this is.
One file on the standard library, for Python 3.9 and later. Whoever comes second finds nothing, and
has nothing to do: the runner is started once. With --again it is started as often as this is, and
goes on from where it was, until the job has its verdict; a queue that ends this process first (its
node is wanted for something else) leaves it without one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List

PLACED = re.compile(r"(CUDA|NVIDIA|ROCR|HIP)_VISIBLE_DEVICES|FTLAUNCH_NODE_(RANK|ADDRESSES)")
ENDED = ("succeeded", "failed", "expired", "stopped")
LINGER_S = 300.0
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: List[str]) -> int:
    """Take what was given, and run the job in the foreground."""
    given, home = argv[:2]
    again = "--again" in argv[2:]
    try:
        with open(given, "rb") as file:
            found = json.loads(file.read())
        if not again:
            os.unlink(given)  # it holds the job's secrets
    except FileNotFoundError:
        return 0
    env = {os.fsencode(k): os.fsencode(v) for k, v in found["env"].items()}
    env.update({k: v for k, v in os.environb.items() if PLACED.fullmatch(os.fsdecode(k))})
    python = found["python"]
    os.chdir(home)
    command = [python, "-I", os.path.join(home, "runner.py"), "run"]
    if not again:
        return os.execve(python, [*command, "--", home], env)  # noqa: S606
    asked = listen()
    code = subprocess.run([*command, "--attempt", "--", home], env=env, check=False).returncode
    if asked:
        # Who ends this process is about to take the machine. An exit of our own would be taken for
        # the job's failure, and nothing would go on from its checkpoint.
        time.sleep(LINGER_S)
    elif state(home).get("phase") in ENDED:
        os.unlink(given)
    return code


def listen() -> List[int]:
    """Outlive what ends the runner: it was told, too, and has a checkpoint to write."""
    asked: List[int] = []
    for what in ENDINGS:
        signal.signal(what, lambda number, _: asked.append(number))
    return asked


def state(home: str) -> Dict[str, Any]:
    """What the runner wrote last."""
    try:
        with open(os.path.join(home, "state.json"), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
