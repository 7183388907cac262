"""What the user typed, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from launcher.on_finish import OnFinish


@dataclass(frozen=True)
class Request:
    """What the user typed."""

    source: str
    profile: str | None = None
    sets: tuple[str, ...] = ()
    data: Path | None = None
    backend: str | None = None
    gpus: tuple[tuple[str, int], ...] = ()
    spot: bool = False
    regions: tuple[str, ...] = ()
    recover: bool = False
    store: str = ""
    name: str | None = None
    output: Path | None = None
    extra: tuple[str, ...] = ()
    only: str | None = None
    merge: bool | None = None
    evaluate: bool | None = None
    max_duration: timedelta | None = None
    max_cost: Decimal | None = None
    max_price: Decimal | None = None
    on_finish: OnFinish | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    max_wait: timedelta | None = None
    artifacts: tuple[str, ...] = ()
    """What comes home, in place of what the recipe says."""
    preflight: bool = True
    """Whether the recipe and its data are looked at for mistakes first."""
