"""The image a job's container is made from: its lock, installed with uv; data of the job says how.

Hints under `modal`, all optional:
    image    a published image to use as it is, instead: "owner/name@sha256:…"
    python   the version of Python for one made from the lock; "3.11"
    imports  modules that must import in it, tried while it is built: "name other"
    index    where pins without a hash are looked for: an index of wheels
    lasting  variables that name folders kept for later jobs, on a Volume: "NAME=folder OTHER=x"
"""

from __future__ import annotations

from typing import Any

from backends.job import Environment
from backends.modal.offers import NAME

_PYTHON = "3.11"


def image(sdk: Any, environment: Environment, *, door: bool) -> Any:
    """The image, as a recipe: nothing is built before the app runs.

    door  an sshd is put in besides: the job serves a port (see `door.py`)
    """
    made = _software(sdk, environment)
    return made.apt_install("openssh-server") if door else made


def _software(sdk: Any, environment: Environment) -> Any:
    hints = environment.hints.get(NAME, {})
    if published := hints.get("image"):
        made = sdk.Image.from_registry(published)
    else:
        made = sdk.Image.debian_slim(python_version=hints.get("python", _PYTHON))
        if environment.lock is None:
            return made
        made = made.uv_pip_install(
            requirements=[str(environment.lock)], extra_index_url=hints.get("index")
        )
    modules = hints.get("imports", "").split()
    if modules:
        # Before the first paid step: a broken environment shows while the image is built.
        made = made.run_commands(f"python -c 'import {', '.join(modules)}'")
    return made
