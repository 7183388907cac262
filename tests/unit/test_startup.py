"""Starting up imports next to nothing: what a blink is made of, counted instead of timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("pydantic", "yaml", "rich", "httpx", "platformdirs", "filelock", "uv"),
    *("huggingface_hub", "torch", "transformers", "axolotl", "modal", "jarvislabs", "sky"),
}


def imported(*argv: str, state: Path) -> set[str]:
    """The top-level packages that a command line imports."""
    script = (
        "import sys; sys.argv = ['ftlaunch', *sys.argv[1:]]\n"
        "from launcher.cli import cli\n"
        "from launcher.cli.ending import run\n"
        "run(cli, sys.argv[1:])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *argv],
        capture_output=True,
        text=True,
        check=True,
        env={"FTLAUNCH_STATE_DIR": str(state), "PATH": "/usr/bin:/bin"},
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("ps",), ("train", "--help")])
def test_quick_commands_import_nothing_heavy(argv: tuple[str, ...], tmp_path: Path) -> None:
    assert imported(*argv, state=tmp_path) & HEAVY == set()


def test_validate_imports_no_network_until_it_is_told_to_ask(tmp_path: Path) -> None:
    assert (
        imported("validate", "memorize-sql", state=tmp_path) & {"httpx", "huggingface_hub"} == set()
    )


def test_completion_of_a_run_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from launcher.cli.options import complete_run\n"
        "complete_run(None, None, '')\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"FTLAUNCH_STATE_DIR": str(tmp_path)},
    )
    assert {name.partition(".")[0] for name in done.stdout.split()} & HEAVY == set()


def test_every_public_name_of_backends_can_be_had() -> None:
    import backends

    for name in backends.__all__:
        assert getattr(backends, name) is not None
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = backends.Nonsense
