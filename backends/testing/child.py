"""A process of its own that uses a backend and may die in the middle.

`python -m backends.testing.child` reads one JSON object from standard input: `factory`,
`state_dir`, `detail`, `environ`, and `do`:

launch         launch `job`, print the lease, die of SIGKILL
launch-cut     launch `job`, die of SIGKILL the moment `on_lease` is called
fetch          fetch `paths` of `files` into `into`, unable to write files beyond `limit_bytes`
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from backends.job import Files, Job
from backends.lease import Lease
from backends.offer import Need
from backends.plan import Argument, Plan, Step
from backends.protocol import Options, silent
from backends.testing.rig import Rig, make


def run(rig: Rig, **what: Any) -> subprocess.CompletedProcess[bytes]:
    """Run this module on a rig's backend and wait for its end, whatever that is."""
    with begun(rig, **what) as process:
        out, err = process.communicate(timeout=rig.patience.total_seconds() + 60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextlib.contextmanager
def begun(rig: Rig, **what: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The same while it runs; it has ended when this is left."""
    request = {
        "factory": rig.factory,
        "state_dir": str(rig.options.state_dir),
        "detail": rig.options.detail,
        "environ": dict(rig.options.environ),
        **what,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "backends.testing.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            process.kill()


def printed_lease(child: subprocess.CompletedProcess[bytes]) -> Lease:
    """The lease a child has printed before it died."""
    found = json.loads(child.stdout)
    created_at = datetime.fromisoformat(found.pop("created_at"))
    return Lease(**{**found, "files": Files(**found["files"])}, created_at=created_at)


def one_step(name: str, argv: Sequence[Argument], deadline_s: float = 300) -> Job:
    """A job of one command, bounded: what a failing test leaves behind ends by itself."""
    plan = Plan(steps=(Step("only", tuple(argv)),))
    return Job(name=name, plan=plan, deadline=timedelta(seconds=deadline_s))


def main() -> None:
    """See the module."""
    asked = json.load(sys.stdin)
    options = Options(Path(asked["state_dir"]), asked["detail"], environ=asked["environ"])
    backend = make(asked["factory"], options)
    if asked["do"] == "fetch":
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit_bytes"], resource.RLIM_INFINITY))
        files = Files(**asked["files"])
        paths = [PurePosixPath(path) for path in asked["paths"]]
        backend.fetch(files, paths, Path(asked["into"]))
        return

    def told(_: Lease) -> None:
        if asked["do"] == "launch-cut":
            os.kill(os.getpid(), signal.SIGKILL)

    offer = backend.offers(Need(), live=False)[0]
    lease = backend.launch(
        one_step(asked["job"], asked["argv"]), offer, on_lease=told, progress=silent
    )
    print(json.dumps(asdict(lease), default=datetime.isoformat), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
