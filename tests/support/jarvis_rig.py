"""The Jarvis Labs backend on the loopback provider, as the conformance suite needs it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from clouds.jarvis.catalogue import TEMPLATES
from clouds.jarvis.cloud import SITE, Cloud
from clouds.jarvis.image import Template

from backends.jarvis import offers
from backends.jarvis.pace import VARIABLE
from backends.lease import Lease
from backends.offer import Need
from backends.protocol import Options
from backends.testing import Rig, Trait

SPEED = 20.0
_GIVEN = {"bundle", "inputs", "caches"}


@dataclass
class OnJarvis(Rig):
    """Counts, cuts and silences at the provider's side."""

    cloud: Cloud | None = None

    @property
    def provider(self) -> Cloud:
        """The cloud; always there."""
        assert self.cloud is not None
        return self.cloud

    def uploaded_bytes(self) -> int:
        """What lies on the provider's disks of inputs and caches: no link counts."""
        total = 0
        for folder, _, names in os.walk(self.provider.folder):
            if _GIVEN & set(Path(folder).parts):
                paths = [Path(folder) / name for name in names]
                total += sum(p.lstat().st_size for p in paths if not p.is_symlink())
        return total

    def kill(self, lease: Lease) -> None:
        """The provider takes the machine away from the job: it is paused, and its disk stays.

        Not `Cloud.cut`: a machine that boots again by itself bills, so its lease has to stay.
        """
        machine = self.provider.machine(lease.data["name"]).id
        self.provider.dashboard_pause(machine)
        end = time.monotonic() + self.patience.total_seconds()
        while self.provider.machine(machine).status != "Paused":
            assert time.monotonic() < end, "the machine does not pause"
            time.sleep(0.01)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Neither the provider nor its machines answer."""
        with self.provider.silence():
            yield


def visible() -> list[Path]:
    """What a machine must see of this one: the interpreters that tests run there."""
    return [Path(sys.base_prefix), Path(sys.prefix)]


def _share_a_disk(cloud: Cloud) -> None:
    """Give the account a disk for caches, where the cheapest machine is: see `launching.py`."""
    from jarvislabs import Client

    region = offers.offers(offers.dated(), Need(), kind=offers.CONTAINER)[0].data["region"]
    with Client(cloud.key) as client:
        client.filesystems.create("ftlaunch", 100, region=region)


@contextlib.contextmanager
def jarvis(
    folder: Path, state_dir: Path, *, detail: str = "", programs: Path | None = None
) -> Iterator[OnJarvis]:
    """A rig on a cloud of its own, which this process and its children use while entered.

    programs  a folder of programs that its images have
    """
    seen = visible() if programs is None else [*visible(), programs]
    image = Template(path_first=[] if programs is None else [programs])
    with (
        Cloud(
            folder, speed=SPEED, visible=seen, templates=dict.fromkeys(TEMPLATES, image)
        ) as cloud,
        cloud.patch(),
        pytest.MonkeyPatch.context() as patch,
    ):
        environ = {**cloud.environ, VARIABLE: str(SPEED)}
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(SITE))
        _share_a_disk(cloud)
        yield OnJarvis(
            factory="backends.jarvis:factory",
            options=Options(state_dir=state_dir, detail=detail, environ=dict(os.environ)),
            supports=frozenset({Trait.HERE, Trait.POWER_CUT, Trait.SILENCE, Trait.UPLOADS}),
            patience=timedelta(seconds=90),
            cloud=cloud,
        )
