"""Whether a step was run there as it is here: its arguments, its variables, what it made."""

from __future__ import annotations

import subprocess
from pathlib import Path

from proc_spy import Seen

MACHINE_S = frozenset(
    {
        *(
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "SHLVL",
            "PWD",
            "OLDPWD",
            "PATH",
            "LANG",
            "TERM",
            "_",
        ),
        *("LC_CTYPE", "SSH_CLIENT", "SSH_CONNECTION", "MOTD_SHOWN", "MAIL", "TMPDIR"),
    }
)
"""Variables that belong to a machine and its login, not to us."""

OURS_APART = {
    "VIRTUAL_ENV": "here an environment of ours is used in place, there the image has its own",
    "HF_HUB_CACHE": "there under the folder that outlives a pause",
    "FTLAUNCH_RUN_MARK": "names one attempt of one job",
}

TENSORS = """
import hashlib, sys
from safetensors import safe_open
digest = hashlib.sha256()
with safe_open(sys.argv[1], "pt") as file:
    for name in sorted(file.keys()):
        digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
print(digest.hexdigest())
"""


def plain(seen: Seen) -> tuple[str, ...]:
    """The arguments, with the run directory's own place taken out."""
    return tuple(part.replace(root(seen), "$RUN") for part in seen.argv)


def root(seen: Seen) -> str:
    """The run directory of a process."""
    return str(Path(seen.cwd).parent)


def variables(seen: Seen) -> dict[str, str]:
    """What is set for the job on every machine; `JL_`, `UV_` and the like are this terminal's."""
    return {
        name: value.replace(root(seen), "$RUN")
        for name, value in seen.environ.items()
        if name.startswith(
            ("AXOLOTL", "CUDA", "OMP", "HF_HUB_OFFLINE", "PYTHON", "FTLAUNCH", "ACCEL")
        )
        and name not in OURS_APART
    }


def tensors(python: Path, file: Path) -> str:
    """A digest of the weights in a file, and of their names."""
    argv = [str(python), "-c", TENSORS, str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
