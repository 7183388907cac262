"""Python imports this at its start when this folder is on PYTHONPATH: see `jarvis_loopback`."""

import os
import sys
from importlib.machinery import PathFinder


def _others() -> None:
    """Run the sitecustomize that stands behind this one, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow
    path = [folder for folder in sys.path if os.path.abspath(folder) != here]  # noqa: PTH100
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(sys.modules[__name__])


if "LOOPBACK_JARVIS" in os.environ:
    import jarvis_loopback  # type: ignore[import-not-found]

    jarvis_loopback.install(os.environ["LOOPBACK_JARVIS"])
_others()
