"""Points the unmodified SDK at a loopback cloud, in whatever process it is imported.

The only thing that must be changed is the dict of the region hosts, in place. The SDK's pauses are
shortened by the cloud's speed as well; its limits in time stay as they are. Nothing of the SDK is
imported here: a hook waits until somebody does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

VARIABLE = "LOOPBACK_JARVIS"
"""A JSON object: `regions` (region to URL) and `speed`."""
SDK = "jarvislabs"


class Time:
    """The `time` module as the SDK shall see it: its sleeps are short."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def sleep(self, seconds: float) -> None:
        """Sleep as long as that takes at the provider."""
        time.sleep(seconds / self._speed)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def change(module: ModuleType, said: dict[str, Any]) -> Callable[[], None]:
    """Change one module of the SDK; what is returned changes it back."""
    undo: list[Callable[[], None]] = []
    if module.__name__ == f"{SDK}.constants":
        hosts: dict[str, str] = module.REGION_URLS
        nowhere = next(iter(said["regions"].values())) + "serverless/"
        for table, new in (
            (hosts, said["regions"]),
            (module.SERVERLESS_REGION_URLS, dict.fromkeys(module.SERVERLESS_REGION_URLS, nowhere)),
        ):
            was = dict(table)
            table.update(new)
            undo.append(lambda table=table, was=was: table.update(was))  # type: ignore[misc]
    if vars(module).get("time") is time:
        module.time = Time(said["speed"])  # type: ignore[attr-defined]
        undo.append(lambda: setattr(module, "time", time))

    def back() -> None:
        for step in undo:
            step()

    return back


class Hook:
    """Finds what everybody finds, and changes the SDK's modules once they have run."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Ours only if it is a module of the SDK."""
        if name.partition(".")[0] != SDK:
            return None
        spec = self._found(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                change(module, self._said)

            spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec

    def _found(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None


def install(text: str) -> None:
    """From now on in this process, as the variable says."""
    sys.meta_path.insert(0, Hook(json.loads(text)))
