"""What a job runs with: what the machine has where that fits, else what its lock says."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from far_machine import Machine
from far_rig import until
from uv import find_uv_bin
from wheels import Wheels

from backends.errors import Refused
from backends.job import Environment, Job
from backends.plan import Plan, Step
from backends.protocol import silent
from backends.ssh.surroundings import plan_software

PYTEST = f"pytest=={metadata.version('pytest')}"


@pytest.fixture
def profiled(machine: Machine, tmp_path: Path) -> Machine:
    """The machine, whose login shell finds this environment's programs and uv, and no network."""
    home = machine.here / "home"
    home.mkdir()
    wheels = tmp_path / "wheels"
    (wheels / "simple").mkdir(parents=True)
    path = [str(Path(sys.executable).parent), str(Path(find_uv_bin()).parent), "/usr/bin", "/bin"]
    (home / "pip.conf").write_text(f"[global]\nindex-url = {(wheels / 'simple').as_uri()}\n")
    (home / ".profile").write_text(
        f"export PATH='{os.pathsep.join(path)}' UV_PYTHON_DOWNLOADS=never "
        f"PIP_CONFIG_FILE='{home / 'pip.conf'}'\nunset PIP_FIND_LINKS\n"
    )
    machine.sshd.home = home
    machine.sshd.stop()
    machine.sshd.start()
    return machine


def job(machine: Machine, lock: Path | None, **hints: str) -> Job:
    plan = Plan(steps=(Step("work", ("python", "-c", "import first; print(first.value)")),))
    environment = Environment(lock=lock, hints={"somewhere": hints, "elsewhere": {"probe": "x"}})
    return replace(machine.job(), plan=plan, environment=environment)


def a_lock(tmp_path: Path) -> Path:
    lock = tmp_path / "lock.txt"
    lock.write_text(Wheels(tmp_path / "wheels").add("first", "1.0", "value = 'from the lock'"))
    return lock


def test_without_hints_and_lock_the_machine_is_taken_as_it_is(machine: Machine) -> None:
    found = plan_software(machine.place(), job(machine, None), "somewhere")
    assert (found.step, found.env, found.how) == (None, {}, "the machine's own software")
    assert found.job == job(machine, None)


@pytest.mark.parametrize("probe", [PYTEST, "pytest", f"{PYTEST} ruff"])
def test_a_machine_that_has_it_is_used_as_it_is(
    profiled: Machine, tmp_path: Path, probe: str
) -> None:
    asked = job(profiled, a_lock(tmp_path), probe=probe)
    found = plan_software(profiled.place(), asked, "somewhere")
    assert found.step is None
    assert found.job == asked
    assert probe in found.how


@pytest.mark.parametrize(
    ("probe", "lacks"),
    [("pytest==0.1", "pytest==0.1"), (f"{PYTEST} no-such-thing==1", "no-such-thing==1")],
)
def test_a_machine_that_lacks_it_gets_a_step(
    profiled: Machine, tmp_path: Path, probe: str, lacks: str
) -> None:
    place = profiled.place()
    found = plan_software(place, job(profiled, a_lock(tmp_path), probe=probe), "somewhere")
    assert found.step is not None
    assert [step.name for step in found.job.plan.steps] == ["environment", "work"]
    assert f"lacks {lacks}" in found.how
    assert plan_software(place, job(profiled, None, probe=probe), "somewhere").step is None


def test_a_command_that_the_machine_lacks_counts_too(profiled: Machine, tmp_path: Path) -> None:
    asked = job(profiled, a_lock(tmp_path), probe=PYTEST)
    odd = replace(asked, plan=Plan(steps=(Step("work", ("no-such-program",)),)))
    found = plan_software(profiled.place(), odd, "somewhere")
    assert found.step is not None
    assert "the command no-such-program" in found.how


def test_the_environment_is_made_by_the_job_s_first_step(profiled: Machine, tmp_path: Path) -> None:
    place = profiled.place()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    asked = job(profiled, a_lock(tmp_path), imports="first", python=version)
    found = plan_software(place, asked, "somewhere")
    place.lay(found.job, told=silent)
    place.start(found.job, {}, note={"software": found.how})
    until("its end", lambda: not place.status("job").alive)
    assert "from the lock" in profiled.log(), profiled.log()
    assert found.env["PATH"].startswith(f"{found.env['VIRTUAL_ENV']}/bin:")
    assert found.env["PATH"].endswith(":/usr/bin:/bin")
    note = json.loads((profiled.home() / "place.json").read_bytes())
    assert note["software"] == found.how
    # The next job finds it made.
    second = plan_software(place, replace(asked, name="second"), "somewhere")
    assert second.env == found.env
    profiled.run(place, second.job)
    assert "there already" in profiled.log("second")
    assert "from the lock" in profiled.log("second")


def test_the_job_s_own_path_comes_behind_the_environment(profiled: Machine, tmp_path: Path) -> None:
    asked = replace(job(profiled, a_lock(tmp_path)), env={"PATH": "/its/own", "X": "1"})
    found = plan_software(profiled.place(), asked, "somewhere")
    assert found.job.env["PATH"] == f"{found.env['VIRTUAL_ENV']}/bin:/its/own"
    assert found.job.env["X"] == "1"


def test_a_machine_without_python3_on_its_path_gets_a_step(
    profiled: Machine, tmp_path: Path
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    for name in ("sh", "cat", "true"):
        (empty / name).symlink_to(f"/bin/{name}")
    profile = profiled.here / "home" / ".profile"
    profile.write_text(f"export PATH='{empty}'\n")
    found = plan_software(
        profiled.place(), job(profiled, a_lock(tmp_path), probe=PYTEST), "somewhere"
    )
    assert found.step is not None
    assert "a python3 that answers" in found.how


def test_a_lock_that_is_gone_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="lock"):
        plan_software(machine.place(), job(machine, tmp_path / "gone"), "somewhere")
