"""Several run directories on this machine, which take themselves for the nodes of one job."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from runner_rig import Rig, State

from backends import runner

TEAM = Path(runner.__file__).with_name("team.py")


class Nodes:
    """As a backend would start them: the same plan in each, `team.py` beside the runner."""

    def __init__(self, python: str, folder: Path, count: int = 2) -> None:
        self.rigs = [Rig(python, folder / f"node {rank}") for rank in range(count)]
        self.started: dict[int, subprocess.Popen[bytes]] = {}
        for rank, rig in enumerate(self.rigs):
            shutil.copy(TEAM, rig.folder / "team.py")
            rig.env |= {
                "FTLAUNCH_NODE_RANK": str(rank),
                "FTLAUNCH_NODE_ADDRESSES": "127.0.0.1\n" * count,
                "FTLAUNCH_TEAM_TOKEN": f"secret {folder}",
            }

    @property
    def first(self) -> Rig:
        return self.rigs[0]

    def plan(self, *steps: State, **more: Any) -> Nodes:
        """The same for each."""
        for rig in self.rigs:
            rig.plan(*steps, nodes=len(self.rigs), **more)
        return self

    def start(self, *ranks: int, arguments: Sequence[str] = ()) -> Nodes:
        """Start all of them, or those."""
        for rank in ranks or range(len(self.rigs)):
            self.started[rank] = self.rigs[rank].popen(*arguments)
        return self

    def codes(self) -> list[int]:
        """How the runners exit, in the order of their ranks; waits for that."""
        return [self.started[rank].wait(120) for rank in sorted(self.started)]

    def run(self) -> State:
        """Start all, wait for their ends; what the first one says."""
        self.start().codes()
        return self.first.state()

    def close(self) -> None:
        """Whatever still runs is ended."""
        for rig in self.rigs:
            rig.command("stop", "--now")
        for one in self.started.values():
            one.kill()
            one.wait()


@pytest.fixture
def nodes(python: str, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(python, tmp_path)
    yield made
    made.close()


def shown(rank: int) -> str:
    """How the first node calls another in a verdict."""
    return f"node{rank} ({socket.gethostname()})"
