"""The first process of a container: passes signals on, reaps what is orphaned, ends with its child.

python init.py PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import os
import signal
import sys


def main(argv: list[str]) -> int:
    child = os.fork()
    if child == 0:
        os.execvp(argv[0], argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: os.kill(child, got))
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
