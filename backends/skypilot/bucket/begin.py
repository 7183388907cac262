"""Makes what `bucket` needs on a machine, and becomes it.

    python3 -I -c SOURCE work|bring URL JOB [ROOT] < PAYLOAD

One file on the standard library, for Python 3.9 and later. PAYLOAD is JSON in base64: the package,
the pins of the file system's library and what makes an environment of them (`make_environment.py`).
The machine's own Python does where it has that library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, List

BECOME = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from ftlaunch_bucket.main import main; sys.exit(main(sys.argv[1:]))"
)
CHECK = "import sys, %s; sys.exit(sys.version_info < (3, 11))"


LINGER_S = 300.0


def linger(*_: Any) -> None:
    """Who ends this process takes the machine: an exit would be taken for the job's failure."""
    time.sleep(LINGER_S)


def main(argv: List[str]) -> int:
    """Lay it out, unless it is there; the exit code where it cannot be."""
    command, url, job = argv[:3]
    for what in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if command == "work" else ():
        signal.signal(what, linger)
    root = argv[3] if len(argv) > 3 else os.path.join(os.path.expanduser("~"), "ftlaunch")
    raw = sys.stdin.buffer.read()
    payload = json.loads(base64.b64decode(raw))
    name = hashlib.sha256(raw).hexdigest()[:16]
    folder = os.path.join(root, "bucket", name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for file, content in payload["files"].items():
        partial = os.path.join(folder, ".%s.%d" % (file, os.getpid()))
        with open(partial, "wb") as out:
            out.write(base64.b64decode(content))
        os.replace(partial, os.path.join(folder, file))
    python = sys.executable
    check = [python, "-I", "-c", CHECK % payload["module"]]
    if subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode:
        prefix = os.path.join(root, "envs", "bucket-%s" % name)
        maker = [python, "-I", os.path.join(folder, "make_environment.py")]
        maker += [os.path.join(folder, "lock.txt"), prefix, os.path.join(root, "tools")]
        maker += ["--python=%s" % payload["python"], "--import=%s" % payload["module"]]
        code = subprocess.run(maker, stdin=subprocess.DEVNULL, check=False).returncode
        if code:
            return code
        python = os.path.join(prefix, "bin", "python")
    package = os.path.join(folder, "package.zip")
    argv = [python, "-I", "-c", BECOME, package, command, url, job, root, sys.executable]
    sys.stdout.flush()
    return os.execv(python, argv)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
