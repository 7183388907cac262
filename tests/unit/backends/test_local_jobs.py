"""The local backend where things went wrong: killed, half done, spoilt on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

import pytest
from local_place import Place, until

from backends import runner
from backends.errors import Lost, NotLaunched
from backends.lease import Keep, Phase, Signal
from backends.local.shelf import Shelf, Stage

SLEEPS = "import time; open('output/ready', 'w').close(); time.sleep(120)"


def ready(place: Place, job: object) -> None:
    until((place.home(job) / "output/ready").exists)  # type: ignore[arg-type]


def kill_only_the_runner(place: Place, lease: object) -> dict[str, object]:
    state = dict(place.seen(lease).state or {})  # type: ignore[arg-type]
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: place.seen(lease).phase is Phase.LOST)  # type: ignore[arg-type]
    return state


def test_a_step_whose_runner_was_killed_is_still_a_lease_and_release_ends_it(place: Place) -> None:
    lease = place.launch(place.job(SLEEPS))
    ready(place, lease)
    state = kill_only_the_runner(place, lease)
    assert "still runs" in place.seen(lease).reason
    assert [found.id for found in place.backend.leases()] == [lease.id]
    place.backend.release(lease, keep=Keep.FILES)
    assert runner.marked(state) == []
    assert list(place.backend.leases()) == []
    assert place.seen(lease).phase is Phase.LOST


def test_a_step_whose_runner_was_killed_can_be_stopped(place: Place) -> None:
    lease = place.launch(place.job(SLEEPS))
    ready(place, lease)
    state = kill_only_the_runner(place, lease)
    place.backend.signal(lease, Signal.STOP, grace=timedelta())
    assert runner.marked(state) == []


def test_a_stopped_runner_does_not_hold_up_a_release(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backends.local import supervisor

    monkeypatch.setattr(supervisor, "_QUIET_S", 0.5)
    lease = place.launch(place.job(SLEEPS))
    ready(place, lease)
    state = dict(place.seen(lease).state or {})
    os.kill(state["pid"], signal.SIGSTOP)
    place.backend.release(lease, keep=Keep.FILES)
    assert runner.marked(state) == []


def test_a_half_laid_job_is_lost_and_can_be_launched(place: Place) -> None:
    shelf = Shelf(place.state)
    job = place.job("open('output/x', 'w').write('done')")
    record = shelf.begin("job", request="cut short", now=datetime.now(UTC), before=None)
    (place.home(job) / "bundle").mkdir()
    assert place.seen(record.lease()).phase is Phase.LOST
    assert list(place.backend.leases()) == []
    lease = place.run(job)
    assert lease.id == record.id, "whoever was told of the lease can go on with it"
    assert (place.home(job) / "output/x").read_text() == "done"


def test_a_launch_that_died_before_the_runner_came_up_is_done_again(place: Place) -> None:
    shelf = Shelf(place.state)
    job = place.job("open('output/x', 'w').write('done')")
    first = shelf.begin("job", request="", now=datetime.now(UTC), before=None)
    shelf.advance(first, Stage.STARTED)
    lease = place.run(job)
    assert lease.id == first.id
    assert place.seen(lease).phase is Phase.SUCCEEDED


def test_a_name_is_not_given_two_different_jobs(place: Place) -> None:
    place.run(place.job("print(1)"))
    with pytest.raises(NotLaunched, match="'job'"):
        place.launch(place.job("print(2)"))


def test_a_shorter_deadline_is_the_same_job(place: Place) -> None:
    job = place.job("print(1)")
    first = place.run(job)
    assert place.launch(replace(job, deadline=timedelta(seconds=9))) == first


def test_a_runner_that_does_not_start_is_its_own_words(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backends.local import supervisor

    monkeypatch.setattr(supervisor, "source", lambda: b"raise SystemExit('no such luck')")
    with pytest.raises(NotLaunched, match="no such luck"):
        place.launch(place.job())
    assert list((place.state / "runs").iterdir()) == []
    assert list(place.backend.leases()) == []


def test_a_record_that_is_spoilt_is_no_job(place: Place) -> None:
    lease = place.run(place.job())
    record = place.home(lease) / "lease.json"
    text = record.read_text()
    record.write_text("{")
    assert place.seen(lease).phase is Phase.LOST
    assert list(place.backend.leases()) == []
    with pytest.raises(Lost):
        place.backend.listing(lease.files)
    record.write_text(text)


def test_a_record_of_a_newer_version_is_read(place: Place) -> None:
    lease = place.run(place.job())
    record = place.home(lease) / "lease.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "new": 1}))
    assert place.seen(lease).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("odd", ["", ".", "..", "../../etc.00", "a/b.00", ".hidden.00", "job"])
def test_an_odd_id_is_nobody_s(place: Place, odd: str) -> None:
    lease = place.run(place.job())
    other = replace(lease, id=odd, files=replace(lease.files, id=odd))
    assert place.seen(other).phase is Phase.LOST
    assert place.backend.release(other, keep=Keep.NOTHING) is None
    place.backend.discard(other.files)
    assert place.seen(lease).phase is Phase.SUCCEEDED


def test_a_job_that_locks_its_own_folders_can_be_removed(place: Place) -> None:
    program = (
        "import os; os.makedirs('output/a/b'); open('output/a/b/c', 'w').close();"
        "os.chmod('output/a/b', 0o500); os.chmod('output/a', 0o500)"
    )
    lease = place.run(place.job(program))
    place.backend.release(lease, keep=Keep.NOTHING)
    assert list((place.state / "runs").iterdir()) == []
    assert list((place.state / "trash").iterdir()) == []
    assert list((place.state / "locks").iterdir()) == []


def test_the_callers_keys_do_not_reach_the_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODY_S_API_KEY", "secret")
    program = "import os; open('output/x', 'w').write(str('SOMEBODY_S_API_KEY' in os.environ))"
    lease = place.run(place.job(program))
    assert (
        b"".join(place.backend.read(lease.files, PurePosixPath("output/x"), offset=0, follow=False))
        == b"False"
    )


def test_a_state_folder_that_is_a_file_is_a_sentence(place: Place) -> None:
    place.state.write_text("in the way")
    with pytest.raises(NotLaunched):
        place.launch(place.job())
    wrong = [finding for finding in place.backend.check() if not finding.ok]
    assert [finding.subject for finding in wrong] == ["state folder"]


def test_importing_it_draws_in_no_more_than_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import backends.local;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'backends'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
