"""What SkyPilot runs on each node of a cluster: a shell reads it, as there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backends.skypilot import nodes


def run(script: str, rank: str, addresses: str = "10.0.0.1\n10.0.0.2") -> tuple[int, str]:
    env = {"SKYPILOT_NODE_RANK": rank, "SKYPILOT_NODE_IPS": addresses}
    done = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.fixture
def commands(tmp_path: Path) -> list[tuple[str, ...]]:
    """Three, each of which says what it was given."""
    program = tmp_path / 'it\'s a "program" $HOME'
    program.write_text(
        "import os, sys\n"
        "told = [os.environ.get('FTLAUNCH_NODE_' + name) for name in ('RANK', 'ADDRESSES')]\n"
        "print(*told, *sys.argv[1:], sep='|')"
    )
    return [(sys.executable, "-I", str(program), f"{rank} 'x' ;") for rank in range(3)]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_each_node_runs_its_own_command_and_knows_the_others(
    commands: list[tuple[str, ...]], rank: str
) -> None:
    said = run(nodes.script(commands[:2], of=2), rank)
    assert said == (0, f"{rank}|10.0.0.1\n10.0.0.2|{rank} 'x' ;\n")


def test_a_node_that_the_job_does_not_take_ends_well_at_once(
    commands: list[tuple[str, ...]],
) -> None:
    script = nodes.script(commands[:1], of=3)
    assert run(script, "0")[1].startswith("0|")
    assert [run(script, rank) for rank in ("1", "2")] == [(0, ""), (0, "")]


def test_a_cluster_of_one_node_asks_for_no_rank(commands: list[tuple[str, ...]]) -> None:
    assert run(nodes.script(commands[:1], of=1), "") == (0, "None|None|0 'x' ;\n")


def test_every_try_of_a_launch_has_the_same_word_and_every_launch_its_own() -> None:
    one = nodes.variables("me", "lease 1")
    assert one == nodes.variables("me", "lease 1")
    assert one != nodes.variables("me", "lease 2")
    assert one != nodes.variables("you", "lease 1")
    assert "me" not in one["FTLAUNCH_TEAM_TOKEN"]
