"""The shipped locks are whole, made from pyproject.toml, and name no machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.environment import lockfile

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted((ROOT / "configs" / "env").glob("axolotl-*.txt"))


def check(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "scripts" / "lock_axolotl.py"), "--check", *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_the_locks_are_those_we_ship() -> None:
    assert sorted(path.stem for path in LOCKS) == [
        "axolotl-cpu",
        "axolotl-cu130",
        "axolotl-cu130-deepspeed",
    ]


def test_they_are_made_from_today_s_pyproject() -> None:
    answer = check()
    assert answer.returncode == 0, answer.stdout


def test_a_changed_pyproject_makes_them_stale(tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = text.replace('"accelerate==1.13.0"', '"accelerate==1.13.1"')
    assert changed != text
    (tmp_path / "pyproject.toml").write_text(changed, encoding="utf-8")
    answer = check("--pyproject", str(tmp_path / "pyproject.toml"))
    assert answer.returncode == 1
    assert answer.stdout.count("out of date") == len(LOCKS)


def test_a_missing_lock_is_stale(tmp_path: Path) -> None:
    assert check("--folder", str(tmp_path)).returncode == 1


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_names_no_machine_and_no_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    options = re.findall(r"^\s*(--?[a-z-]+)", text, re.MULTILINE)
    assert set(options) == {"--hash"}
    assert not re.search(r"://|@ |(^|\s)/\w|\.\./|[A-Z]:\\", text)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_everything_has_a_hash_but_the_cpu_build_of_torch(path: Path) -> None:
    unhashed = [f"{pin.name} {pin.version}" for pin in lockfile.read(path).unhashed]
    assert unhashed == (["torch 2.13.0+cpu"] if path.stem == "axolotl-cpu" else [])


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_what_the_environment_is_checked_for(path: Path) -> None:
    versions = lockfile.read(path).versions
    assert versions["axolotl"] == "0.19.0"
    assert versions["accelerate"] == "1.13.0"
    assert {"torch", "transformers", "peft", "gguf"} <= versions.keys()


def test_the_cpu_lock_holds_no_cuda() -> None:
    names = {pin.name for pin in lockfile.read(ROOT / "configs/env/axolotl-cpu.txt").pins}
    assert not {name for name in names if name.startswith(("nvidia-cu", "cuda-"))}


def test_a_lock_is_read_with_markers_continuations_and_comments() -> None:
    lock = lockfile.parse(
        "# head\n"
        "a==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via b\n"
        "a==2.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "b.c==3+cpu\n"
    )
    first, second, third = lock.pins
    assert (first.version, first.hashes) == ("1.0", ("sha256:aa", "sha256:bb"))
    assert first.marker == "python_full_version < '3.12'"
    assert second.version == "2.0"
    assert third.hashes == ()
    assert lock.versions == {"b.c": "3+cpu"}
    assert lockfile.parse("".join(pin.text.replace("===", "==") for pin in lock.pins)) == lock


@pytest.mark.parametrize("line", ["a>=1", "-r other.txt", "a @ https://example.invalid/a.whl", "a"])
def test_what_is_no_pin_is_no_lock(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned requirement"):
        lockfile.parse(line)
