"""Waiting for what a call does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from clouds.modal.cloud import Cloud

Spawn = Callable[..., Any]
"""Name and arguments of a function in `careless.py`; retries, limit, gpu, size."""


def until(what: str, look: Callable[[], Any], patience_s: float = 60) -> Any:
    end = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def running(cloud: Cloud, call: Any, words: str) -> None:
    """Until the container has said something."""
    app = next(c["app"] for c in cloud.state["calls"] if c["id"] == call.object_id)
    until(words, lambda: words in cloud.admin("logs", app=app))
