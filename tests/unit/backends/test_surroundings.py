"""What a job sees of its caller, and what this machine has to offer."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends.job import Environment, Job, Secrets
from backends.local import Local, surroundings
from backends.local.surroundings import Gpu
from backends.offer import FREE, Need
from backends.plan import Plan
from backends.protocol import Options

CALLER = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_TOKEN": "secret",
    "HF_TOKEN": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "NVIDIA_API_KEY": "secret",
    "PYTHONPATH": "/somewhere",
    "VIRTUAL_ENV": "/the/launcher's",
    "https_proxy": "http://proxy",
}

H100 = Gpu("NVIDIA H100 80GB HBM3", 79.6)
A100 = Gpu("NVIDIA A100-SXM4-80GB", 80.0)
L40S = Gpu("NVIDIA L40S", 45.0)
RTX = Gpu("NVIDIA GeForce RTX 4090", 24.0)


def job(**changes: object) -> Job:
    return Job(name="a", plan=Plan(steps=()), **changes)  # type: ignore[arg-type]


def test_only_what_is_listed_passes() -> None:
    passed = surroundings.variables(job(), CALLER)
    expected = ("PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "https_proxy")
    assert passed == {name: CALLER[name] for name in expected}


def test_the_job_s_own_variables_win_and_its_secrets_over_them() -> None:
    given = job(env={"HOME": "/run", "A": "plain"}, secrets=Secrets({"A": "hidden"}))
    found = surroundings.variables(given, CALLER)
    assert (found["HOME"], found["A"]) == ("/run", "hidden")


def test_the_environment_comes_first_on_the_path() -> None:
    found = surroundings.variables(job(environment=Environment(prefix=Path("/an env"))), CALLER)
    assert found["PATH"] == "/an env/bin:/usr/bin"
    assert found["VIRTUAL_ENV"] == "/an env"


def test_the_environment_comes_before_the_job_s_path_too() -> None:
    given = job(environment=Environment(prefix=Path("/env")), env={"PATH": "/mine"})
    assert surroundings.variables(given, CALLER)["PATH"] == "/env/bin:/mine"


def test_there_is_always_a_path() -> None:
    assert surroundings.variables(job(), {})["PATH"] == os.defpath


@pytest.mark.parametrize(
    ("asked", "gpu", "same"),
    [
        ("H100", H100, True),
        ("h100-80gb", H100, True),
        ("H100:SXM", H100, False),
        ("A100-80GB", A100, True),
        ("A100", A100, True),
        ("A10", A100, False),
        ("A100-40GB", A100, False),
        ("L40", L40S, False),
        ("L40S", L40S, True),
        ("RTX4090", RTX, True),
        ("rtx-4090", RTX, True),
        ("4090", RTX, True),
    ],
)
def test_kinds_are_compared_word_by_word(asked: str, gpu: Gpu, same: bool) -> None:
    assert surroundings.same_kind(asked, gpu.name) is same


def test_the_first_kind_that_is_here_in_number_is_taken() -> None:
    need = Need(gpus=(("H100", 2), ("A100", 2), ("H100", 1)))
    assert surroundings.wanted(need, [H100, A100, A100]) == (A100, A100)
    assert surroundings.wanted(need, [H100, A100]) == (H100,)
    assert surroundings.wanted(need, [A100]) is None


def test_without_a_wish_all_gpus_are_taken() -> None:
    assert surroundings.wanted(Need(), [H100, H100]) == (H100, H100)
    assert surroundings.wanted(Need(), []) == ()


def test_what_the_driver_prints_is_understood() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559\nNVIDIA A100-SXM4-80GB, 81920\n\nno devices found\n"
    found = surroundings.parse_gpus(text)
    assert [gpu.name for gpu in found] == [H100.name, A100.name]
    assert found[1].memory_gib == 80


def test_a_driver_is_really_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('NVIDIA L40S, 46068')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (offer,) = Local(Options(tmp_path / "state")).offers(Need(gpus=(("l40s", 1),)), live=False)
    assert (offer.gpu, offer.count) == ("NVIDIA L40S", 1)
    assert offer.gpu_memory_gib == pytest.approx(44.99, abs=0.01)


def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nraise SystemExit(9)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings.gpus() == ()


def test_this_machine_is_free_and_says_when_it_was_looked_at(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    (offer,) = Local(Options(tmp_path, clock=lambda: now)).offers(Need(), live=False)
    assert (offer.price, offer.read_at, offer.source) == (FREE, now, "this machine")


@pytest.mark.parametrize(
    "need", [Need(cpus=100_000), Need(memory_gib=10_000_000), Need(nodes=2)], ids=repr
)
def test_what_this_machine_has_not_it_does_not_offer(tmp_path: Path, need: Need) -> None:
    assert list(Local(Options(tmp_path)).offers(need, live=False)) == []
