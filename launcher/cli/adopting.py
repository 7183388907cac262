"""`ftlaunch ps --adopt`: the runs that other computers of the same account began."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from backends.errors import FtlaunchError, MayStillBill
from backends.lease import Lease
from backends.protocol import Backend
from launcher.cli import looking
from launcher.plan_text import printable
from launcher.run.adopting import Adopted, adopt, strangers
from launcher.store import Store


@dataclass(frozen=True)
class Left:
    """Something that was not adopted. `job` is empty where a backend does not even say what is."""

    backend: str
    job: str
    error: FtlaunchError

    @property
    def exit_code(self) -> int:
        """What goes on somewhere may bill, whatever kept us from it."""
        return MayStillBill.exit_code if self.job else self.error.exit_code


@dataclass
class Found:
    """What a look round brought."""

    adopted: list[Adopted] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """8 when something was left that may bill."""
        return max((one.exit_code for one in self.left), default=0)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        adopted = [
            {
                "name": one.run.name,
                "job": one.job,
                "backend": one.run.backend,
                "output": str(one.run.output_dir),
                "left_out": list(one.left_out),
                "secrets": list(one.secrets),
            }
            for one in self.adopted
        ]
        left = [
            {
                "backend": one.backend,
                "job": one.job,
                "why": one.error.message,
                "hint": one.error.hint,
            }
            for one in self.left
        ]
        return {"adopted": adopted, "left": left}

    def tell(self) -> None:
        """In sentences, before the table of runs."""
        for one in self.adopted:
            click.echo(
                f"{one.run.name}: its {one.job} was found at {one.run.backend} and is finished "
                f"from here; results come to {one.run.output_dir}"
            )
            for why in one.left_out:
                click.echo(f"  {printable(why)}")
            if one.secrets:
                click.echo(f"  its later jobs get these secrets: {', '.join(one.secrets)}")
        for other in self.left:
            click.echo(f"ftlaunch: not adopted: {printable(other.error.message)}", err=True)
            if other.error.hint:
                click.echo(f"  {other.error.hint}", err=True)
        if not self.adopted and not self.left:
            click.echo("there is nothing to adopt")


def adopt_all(store: Store, backend: str | None, secrets: Collection[str] = ()) -> Found:
    """Adopt what there is at one backend, or at every one that is set up.

    secrets  names of those that later jobs may have
    """
    found = Found()
    for name in looking.chosen(backend):
        try:
            if backend is None and looking.not_set_up(looking.look(name)):
                continue
            loaded = looking.load(name)
            leases = strangers(store, loaded)
        except FtlaunchError as error:
            if backend is not None:
                raise
            found.left.append(Left(name, "", error))
            continue
        for lease in leases:
            try:
                found.adopted.append(_one(store, loaded, lease, secrets))
            except FtlaunchError as error:
                found.left.append(Left(name, lease.job, error))
    return found


def _one(store: Store, backend: Backend, lease: Lease, secrets: Collection[str]) -> Adopted:
    return adopt(store, backend, lease, folder=Path.cwd(), secrets=secrets)
