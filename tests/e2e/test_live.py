"""`scripts/live.py` as it is, against the loopback provider: real axolotl, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jarvis_axolotl import cloud_with_axolotl, variables
from jarvis_rig import OnJarvis, jarvis
from laptops import until

from launcher import environment

pytestmark = pytest.mark.timeout(900)

SCRIPT = Path(__file__).parents[2] / "scripts" / "live.py"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OnJarvis]:
    with jarvis(tmp_path / "cloud", tmp_path / "unused") as made:
        yield made


def live(tmp_path: Path, **variables: str) -> subprocess.Popen[str]:
    made = tmp_path / "made"
    made.mkdir()
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "jarvis"],
        env={**os.environ, "LIVE_GPU": "cpu", "TMPDIR": str(made), **variables},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def at_rest(rig: OnJarvis) -> bool:
    until("the end of all bills", lambda: not rig.provider.meter.billing(), 20)
    return not rig.provider.account["keys"]


@pytest.mark.axolotl
@pytest.mark.seldom
def test_the_whole_job(tmp_path: Path) -> None:
    python = environment.python_of(environment.ensure(environment.choose({}, gpu=False)))
    with cloud_with_axolotl(tmp_path / "cloud", python) as cloud:
        process = live(tmp_path, **variables(cloud))
        said, _ = process.communicate(timeout=800)
        assert process.returncode == 0, said
        assert "adapter_model.safetensors" in said
        assert "output/merged/model.safetensors" in said
        assert "it cost about 0." in said
        assert "nothing of it is left at the provider" in said
        until("the end of all bills", lambda: not cloud.meter.billing(), 20)
        assert not cloud.account["keys"]


def test_interrupted_it_ends_what_it_began(rig: OnJarvis, tmp_path: Path) -> None:
    process = live(tmp_path)
    until("a machine", lambda: any(m.status == "Running" for m in rig.provider.machines))
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "nothing of it is left at the provider" in said
    assert at_rest(rig)


@pytest.mark.seldom
def test_what_does_not_end_is_said(rig: OnJarvis, tmp_path: Path) -> None:
    rig.provider.fate(fail="no disk")
    rig.provider.fail("POST", ".*destroy.*", 500, times=None)
    process = live(tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 8, said
    assert "this may still bill: the machine of ftl-live-" in said
    rig.provider.forgive()
