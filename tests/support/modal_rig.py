"""The Modal backend on the loopback provider, as the conformance suite needs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from clouds.modal.cloud import Cloud

from backends.lease import Lease
from backends.modal.account import PREFIX
from backends.protocol import Options
from backends.testing import Rig, Trait


@dataclass
class OnModal(Rig):
    """Counts, cuts and silences at the provider's side."""

    cloud: Cloud | None = None

    @property
    def provider(self) -> Cloud:
        """The cloud; always there."""
        assert self.cloud is not None
        return self.cloud

    def uploaded_bytes(self) -> int:
        """What lies on the provider's volumes of inputs and caches."""
        total = 0
        for name in self.provider.state["volumes"]:
            top = self.provider.volume(name)
            for path in top.rglob("*"):
                inside = path.relative_to(top).parts
                given = name == f"{PREFIX}caches" or {"bundle", "inputs"} & set(inside[1:2])
                if given and path.is_file() and path.suffix != ".whole":
                    total += path.stat().st_size
        return total

    def kill(self, lease: Lease) -> None:
        """The app is stopped at the dashboard: nothing of it is retried."""
        for app in self.provider.state["apps"]:
            if app["description"] == PREFIX + lease.job and not app["over"]:
                self.provider.admin("stop", app=app["id"])

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """The control plane does not answer; what runs goes on."""
        with self.provider.silence():
            yield


@contextlib.contextmanager
def modal(
    folder: Path, state_dir: Path, *, speed: float = 1.0, programs: Path | None = None
) -> Iterator[OnModal]:
    """A rig on a cloud of its own, which this process and its children use while entered.

    programs  a folder of programs that its images have
    """
    env = {} if programs is None else {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
    with Cloud(folder, speed=speed, image_env=env) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environ.items():
            patch.setenv(name, value)
        yield OnModal(
            factory="backends.modal:factory",
            options=Options(state_dir=state_dir, environ=dict(os.environ)),
            supports=frozenset({Trait.HERE, Trait.POWER_CUT, Trait.SILENCE, Trait.UPLOADS}),
            patience=timedelta(seconds=90),
            cloud=cloud,
        )
