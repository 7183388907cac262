"""Runs inside a managed environment: imports what must import and says which versions are there.

    python -I probe_worker.py MODULE...

Prints one JSON object: {"versions": {distribution: version}, "failed": {module: reason}}. It stands
alone and knows no package by name.
"""

import contextlib
import importlib
import importlib.metadata
import json
import sys


def look(modules: list[str]) -> dict[str, dict[str, str]]:
    """Import each module; a module that fails does not hide the others."""
    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the environment is broken
            failed[module] = f"{type(error).__name__}: {error}"
    versions = {
        (dist.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-"): dist.version
        for dist in importlib.metadata.distributions()
    }
    return {"versions": versions, "failed": failed}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # packages print while they are imported
        answer = look(sys.argv[1:])
    sys.stdout.write(json.dumps(answer) + "\n")
