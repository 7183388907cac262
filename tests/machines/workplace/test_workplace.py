"""A whole job at the far end of a real ssh connection: laid out, started, ended, fetched."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from far_machine import FOREVER, Machine
from far_rig import mode, until

from backends.errors import Lost, MayStillBill, NotLaunched, Refused
from backends.job import Attached, Files, LocalTree, Secrets
from backends.lease import Signal
from backends.protocol import silent
from backends.ssh.sync import Moved

SECRET = "canary-40c1"
WRITE = "import os\nos.makedirs('output/deep')\nopen('output/deep/x', 'w').write('made')"
GRACE = timedelta(seconds=30)


def test_a_job_is_laid_out_run_and_fetched(machine: Machine, tmp_path: Path) -> None:
    place = machine.place()
    files = (machine.file("data", b"some data"), machine.file("odd\n'name\udcff", b"odd"))
    seen = machine.run(place, machine.with_files(*files))
    assert seen.state is not None
    assert (seen.state["phase"], seen.alive, seen.leftover) == ("succeeded", False, False)
    assert (machine.home() / "bundle/data").read_bytes() == b"some data"
    assert (machine.home() / "bundle" / "odd\n'name\udcff").read_bytes() == b"odd"
    listed = place.listing("job")
    assert listed[PurePosixPath("bundle/data")] == 9
    content = b"".join(place.read("job", PurePosixPath("bundle/data"), offset=5))
    assert content == b"data"


def test_results_come_as_the_manifest_vouches_for_them(machine: Machine, tmp_path: Path) -> None:
    place = machine.place()
    machine.run(place, machine.job(WRITE))
    made = PurePosixPath("output/deep/x")
    assert place.fetch("job", [made], tmp_path / "got", told=silent) == Moved(1, 4)
    assert (tmp_path / "got" / made).read_text() == "made"
    assert place.fetch("job", [made], tmp_path / "got", told=silent) == Moved(0, 0)
    (machine.home() / made).write_text("fake")
    with pytest.raises(Lost):
        place.fetch("job", [made], tmp_path / "again", told=silent)


def test_files_are_private_and_programs_stay_programs(machine: Machine) -> None:
    program = machine.file("run me", b"#!/bin/sh\n")
    program.here.chmod(0o755)
    job = machine.with_files(machine.file("data", b"x"), program)
    machine.place().lay(job, told=silent)
    home = machine.home()
    assert [mode(home / name) for name in (".", "bundle", "output")] == [0o700] * 3
    names = ("bundle/data", "plan.json", "runner.py", "bundle/run me")
    assert [mode(home / name) for name in names] == [0o600, 0o600, 0o600, 0o700]


# ── again, after a break ──────────────────────────────────────────────────────────────────────────


def test_laid_out_again_nothing_is_sent(machine: Machine) -> None:
    place = machine.place()
    kept = machine.file("a", b"aaa")
    job = machine.with_files(kept, machine.file("b", b"bb"))
    assert place.lay(job, told=silent) == Moved(2, 5)
    assert machine.place().lay(job, told=silent) == Moved(0, 0)
    changed = machine.with_files(kept, machine.file("c", b"c"))
    assert place.lay(changed, told=silent) == Moved(1, 1)
    assert sorted(path.name for path in (machine.home() / "bundle").iterdir()) == ["a", "c"]


def test_a_connection_that_is_cut_while_it_is_laid_out_is_made_again(machine: Machine) -> None:
    place = machine.place()
    cuts = iter((machine.sshd.cut, machine.sshd.cut))

    def cut_once_or_twice(what: str, *, done: int | None = None, total: int | None = None) -> None:
        if cut := next(cuts, None):
            cut()

    big = machine.file("big", os.urandom(20 << 20))
    place.lay(machine.with_files(big), told=cut_once_or_twice)
    assert next(cuts, None) is None
    assert (machine.home() / "bundle/big").read_bytes() == big.here.read_bytes()


def test_a_job_that_was_started_is_not_laid_out_again(machine: Machine) -> None:
    place = machine.place()
    job = machine.job(FOREVER)
    machine.launch(place, job)
    until("its step", lambda: "it runs" in machine.log())
    assert place.lay(machine.with_files(machine.file("late", b"x")), told=silent) == Moved(0, 0)
    assert not (machine.home() / "bundle/late").exists()
    first = place.status("job").state
    place.start(job, {})
    again = place.status("job").state
    assert first is not None
    assert again is not None
    assert first["pid"] == again["pid"]


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "at", ["/etc/x", "../x", "bundle/../../x", ".", "state.json", "logs/x", "place.json"]
)
def test_an_input_cannot_be_laid_over_what_is_not_its_own(machine: Machine, at: str) -> None:
    with pytest.raises(Refused, match="no place"):
        machine.place().lay(machine.with_files(machine.file("data", b"x", at=at)), told=silent)
    assert not machine.root.exists()


def test_two_inputs_cannot_have_one_place_nor_one_inside_another(machine: Machine) -> None:
    place = machine.place()
    first, second = machine.file("a", b"1", at="bundle/x"), machine.file("b", b"2", at="bundle/x")
    below = machine.file("c", b"3", at="inputs/train/x")
    earlier = Attached(Files("any", "1", {"job": "earlier"}), PurePosixPath("inputs/train"))
    over = replace(earlier, at=PurePosixPath("bundle"))
    for inputs in (
        (LocalTree((first, second)),),
        (LocalTree((below,)), earlier),
        (over,),
    ):
        with pytest.raises(Refused, match="same place"):
            place.lay(machine.job(inputs=inputs), told=silent)
    assert not machine.root.exists()


def test_a_file_that_is_not_what_was_planned_is_named(machine: Machine) -> None:
    place = machine.place()
    longer = machine.file("longer 'one", b"before")
    longer.here.write_bytes(b"after that")
    other = machine.file("other", b"before")
    other.here.write_bytes(b"after!")
    gone = machine.file("gone", b"")
    gone.here.unlink()
    pipe = machine.file("pipe", b"")
    pipe.here.unlink()
    os.mkfifo(pipe.here)
    for file, words in (
        (longer, "changed"),
        (other, "changed"),
        (gone, "cannot be read"),
        (pipe, "not a regular file"),
    ):
        with pytest.raises(Refused, match=words) as caught:
            place.lay(machine.with_files(file), told=silent)
        assert file.here.name in caught.value.message
    assert not (machine.home() / "runner.py").exists()


def test_a_disk_without_room_is_refused_before_anything_is_sent(machine: Machine) -> None:
    job = machine.with_files(machine.file("data", b"x"))
    huge = replace(job, plan=replace(job.plan, disk_reserve_bytes=1 << 60))
    with pytest.raises(Refused, match="free"):
        machine.place().lay(huge, told=silent)
    assert not machine.root.exists()


def test_files_of_an_earlier_job_must_be_on_the_machine(machine: Machine) -> None:
    place = machine.place()
    for name, words in (("gone", "'gone' are not on this machine"), ("../x", "no job")):
        item = Attached(Files("any", "1", {"job": name}), PurePosixPath("inputs/train"))
        with pytest.raises(Refused, match=words):
            place.lay(machine.job(inputs=(item,)), told=silent)


def test_what_was_not_laid_out_does_not_start(machine: Machine) -> None:
    place = machine.place()
    with pytest.raises(NotLaunched, match="not laid out"):
        place.start(machine.job(), {})
    place.lay(machine.job(), told=silent)
    (machine.home() / "plan.json").unlink()
    with pytest.raises(NotLaunched, match=r"plan\.json"):
        place.start(machine.job(), {})


def test_what_the_machine_cannot_do_is_said_in_its_words(machine: Machine) -> None:
    machine.root.parent.mkdir()
    machine.root.write_bytes(b"")
    with pytest.raises(NotLaunched, match="the machine cannot run the job"):
        machine.place().lay(machine.job(), told=silent)


# ── what others left there ────────────────────────────────────────────────────────────────────────


def test_an_earlier_job_s_files_are_seen_and_not_sent(machine: Machine) -> None:
    place = machine.place()
    machine.run(place, machine.job(WRITE, name="earlier"))
    item = Attached(Files("any", "1", {"job": "earlier"}), PurePosixPath("inputs/train"))
    read = "print(open('inputs/train/output/deep/x').read())"
    later = machine.job(read, name="later", inputs=(item,))
    assert place.lay(later, told=silent) == Moved(0, 0)
    place.start(later, {})
    until("its end", lambda: "made" in machine.log("later"))
    assert not any(path.parts[0] == "inputs" for path in place.listing("later"))


def test_a_cache_is_sent_once_and_seen_by_all(machine: Machine, tmp_path: Path) -> None:
    shared = tmp_path / "shared disk"
    place = machine.place(cache_root=shared)
    weights = machine.file("weights", b"w" * 5000, at="sub/weights")
    cache = machine.cache("a key/with odd letters", weights)
    first = machine.job("print(len(open('bundle/model/sub/weights').read()))", caches=(cache,))
    assert machine.launch(place, first) == Moved(1, 5000)
    until("its step", lambda: "5000" in machine.log())
    weights.here.write_bytes(b"v" * 5000)  # what is there under the key is not looked at here
    second = machine.job(name="second", caches=(replace(cache, at=PurePosixPath("bundle/m")),))
    assert place.lay(second, told=silent) == Moved(0, 0)
    seen = machine.home("second") / "bundle/m/sub/weights"
    assert seen.read_bytes() == b"w" * 5000
    assert seen.resolve().is_relative_to(shared)
    assert not any("model" in path.parts for path in place.listing("job"))


def test_a_cache_whose_files_were_touched_is_made_anew(machine: Machine) -> None:
    place = machine.place()
    cache = machine.cache("key", machine.file("weights", b"w" * 50, at="weights"))
    place.lay(machine.job(caches=(cache,)), told=silent)
    seen = machine.home() / "bundle/model/weights"
    seen.write_bytes(b"spoilt")
    place.lay(machine.job(name="second", caches=(cache,)), told=silent)
    assert seen.read_bytes() == b"w" * 50


def test_two_who_need_one_cache_send_it_once(machine: Machine, tmp_path: Path) -> None:
    shared = tmp_path / "shared disk"
    cache = machine.cache("key", machine.file("weights", os.urandom(30 << 20), at="weights"))
    moved: list[Moved] = []

    def lay(name: str) -> None:
        place = machine.place(cache_root=shared)
        moved.append(place.lay(machine.job(name=name, caches=(cache,)), told=silent))

    threads = [threading.Thread(target=lay, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.bytes for each in moved) == [0, 30 << 20]
    assert (machine.home("two") / "bundle/model/weights").exists()


def test_a_changed_file_of_a_cache_is_named_and_nothing_is_sealed(machine: Machine) -> None:
    place = machine.place()
    file = machine.file("weights", b"before", at="weights")
    file.here.write_bytes(b"after!")
    job = machine.job(caches=(machine.cache("key", file),))
    with pytest.raises(Refused, match="weights"):
        place.lay(job, told=silent)
    assert not (machine.root / "caches/key/complete.json").exists()
    assert not (machine.root / "caches/key.lock").exists()


# ── living jobs ───────────────────────────────────────────────────────────────────────────────────


def test_a_job_outlives_its_connection_and_keeps_its_secrets_to_itself(machine: Machine) -> None:
    place = machine.place()
    secrets = Secrets({"API_KEY": SECRET, "BOTH": "secret"})
    show = "import os\nprint(os.environ['BOTH'], os.environ['FROM'], flush=True)\n" + FOREVER
    job = machine.job(show, env={"BOTH": "job", "FROM": "job"}, secrets=secrets)
    place.lay(job, told=silent)
    place.start(job, {"FROM": "caller"}, note={"software": "its own"})
    place.host.close()
    until("its step", lambda: "it runs" in machine.log())
    assert "secret caller" in machine.log()
    seen = machine.place().status("job")
    assert seen.alive
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert SECRET.encode() not in path.read_bytes()
        except OSError:
            continue
    for file in machine.root.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    assert b'"software": "its own"' in (machine.home() / "place.json").read_bytes()


def test_all_jobs_of_a_machine_are_told_in_one_look(machine: Machine) -> None:
    place = machine.place()
    assert place.jobs() == {}
    assert place.status("job").there is False
    machine.run(place, machine.job(name="over"))
    machine.launch(place, machine.job(FOREVER, name="living"))
    place.lay(machine.job(name="laid"), told=silent)
    found = place.jobs()
    assert {name for name, run in found.items() if run.works} == {"living"}
    assert (found["over"].phase, found["laid"].phase) == ("succeeded", "absent")
    assert set(place.status("over").others) == {"living", "laid"}


def test_a_signal_reaches_the_job_and_an_end_ends_it(machine: Machine) -> None:
    place = machine.place()
    machine.launch(place, machine.job(FOREVER))
    until("its step", lambda: "it runs" in machine.log())
    with pytest.raises(Refused, match="still runs"):
        place.remove("job")
    place.signal("job", Signal.CHECKPOINT, GRACE)
    assert place.status("job").alive
    place.signal("job", Signal.STOP, GRACE)
    until("its end", lambda: not place.status("job").alive)
    state = place.status("job").state
    assert state is not None
    assert state["phase"] == "stopped"
    place.signal("job", Signal.STOP, GRACE)
    place.end("job")
    place.remove("job")
    place.remove("job")
    place.end("job")
    assert not machine.home().exists()


def test_a_job_whose_runner_was_killed_is_seen_and_ended(machine: Machine) -> None:
    place = machine.place()
    machine.launch(place, machine.job(FOREVER))
    until("its step", lambda: "it runs" in machine.log())
    state = place.status("job").state
    assert state is not None
    os.kill(state["pid"], signal.SIGKILL)
    until("its death", lambda: not place.status("job").alive)
    seen = place.status("job")
    assert seen.state is not None
    assert (seen.state["phase"], seen.leftover) == ("lost", True)
    place.end("job")
    assert not place.status("job").leftover


def test_a_job_that_removed_its_own_runner_is_still_judged(machine: Machine) -> None:
    place = machine.place()
    machine.launch(place, machine.job(FOREVER))
    until("its step", lambda: "it runs" in machine.log())
    (machine.home() / "runner.py").unlink()
    assert place.status("job").alive
    place.end("job")
    assert not place.status("job").alive


def test_what_does_not_die_is_said_with_a_way_out(machine: Machine) -> None:
    place = machine.place()
    machine.launch(place, machine.job(FOREVER))
    until("its step", lambda: "it runs" in machine.log())
    content = (machine.home() / "runner.py").read_bytes()
    (machine.home() / "runner.py").write_bytes(b"def status(_):\n    raise OSError('broken')\n")
    with pytest.raises(MayStillBill, match="broken"):
        place.end("job")
    (machine.home() / "runner.py").write_bytes(content)


def test_a_login_that_prints_and_a_bare_path_change_nothing(machine: Machine) -> None:
    home = machine.here / "home"
    home.mkdir()
    (home / ".profile").write_text("echo welcome; export FROM_PROFILE=yes\n")
    machine.sshd.home = home
    machine.sshd.stop()
    machine.sshd.start()
    place = machine.place()
    show = "import os\nprint('profile', os.environ.get('FROM_PROFILE'))"
    machine.run(place, machine.job(show))
    assert "profile yes" in machine.log()


def test_two_computers_that_launch_one_job_run_it_once(machine: Machine) -> None:
    files = [machine.file(f"data{number}", b"x" * 100_000) for number in range(40)]
    job = machine.with_files(*files)
    failed: list[BaseException] = []

    def launch(by: str) -> None:
        try:
            machine.launch(machine.place(by=by), job)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    both = [threading.Thread(target=launch, args=(by,)) for by in ("one", "other")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert failed == []
    until("its end", lambda: not machine.place().status("job").alive)
    seen = machine.place().status("job").state
    assert seen is not None
    assert (seen["phase"], seen["attempt"]) == ("succeeded", 1)
