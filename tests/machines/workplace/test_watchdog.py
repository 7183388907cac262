"""The watchdog lets go of a machine that nobody needs, and of no other."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import threading
from pathlib import Path

import pytest
from watch_rig import SECRET, Watch


def fires(watch: Watch, times: int = 1) -> None:
    watch.until("a call", lambda: len(watch.provider.calls) >= times)


def test_it_calls_the_hook_with_the_key_when_nothing_has_run_for_a_while(watch: Watch) -> None:
    assert watch.install()["alive"] is True
    assert watch.command("status")["alive"] is True
    fires(watch)
    method, path, key, _ = watch.provider.calls[0]
    assert (method, path, key) == ("POST", "/pause?id=7", f"Bearer {SECRET}")


def test_it_says_why_before_it_acts(watch: Watch) -> None:
    blocked = watch.root / "hook is called"
    os.mkfifo(blocked)
    watch.install(hook={"argv": ["sh", "-c", 'read line < "$1"', "sh", str(blocked)]})
    watch.until("its reason", lambda: watch.state()["phase"] == "pausing")
    said = watch.state()
    assert said["reason"].startswith("pausing because for 0.3 s nothing has run here")
    assert "last" not in said  # the hook has not answered yet
    blocked.write_text("go on\n")
    watch.until("the end of the hook", lambda: watch.state().get("last") == "exit code 0")


def test_it_does_not_while_a_job_runs_and_does_when_it_has_ended(watch: Watch, twin: Watch) -> None:
    first, second = watch.job("first"), watch.job("second")
    watch.install()
    twin.install()
    fires(twin, 5)
    assert watch.provider.calls == []
    watch.job_ends(first)
    fires(twin, 10)
    assert watch.provider.calls == []
    watch.job_ends(second)
    fires(watch)


def test_it_does_not_while_a_client_is_seen(watch: Watch, twin: Watch) -> None:
    watch.install(idle_s=1.5)
    over = threading.Event()

    def look_after_it() -> None:
        while not over.wait(0.02):
            watch.touch()

    client = threading.Thread(target=look_after_it)
    client.start()
    try:
        twin.install(idle_s=2)
        fires(twin)
        assert watch.provider.calls == []
    finally:
        over.set()
        client.join()
    fires(watch)


def test_a_hold_keeps_it_awake_until_it_is_over(watch: Watch, twin: Watch) -> None:
    watch.install(deadline_s=0.2, poll_s=0.01, idle_s=5)
    watch.command("hold", b'{"seconds": 1000}\n')
    watch.until("the hold", lambda: watch.state()["phase"] == "held" or watch.provider.calls)
    calls = len(watch.provider.calls)
    twin.install()
    fires(twin, 5)
    assert len(watch.provider.calls) == calls
    watch.command("hold", b'{"seconds": 0}\n')
    fires(watch, calls + 1)


def test_a_hold_ends_by_itself(watch: Watch) -> None:
    watch.install(idle_s=0.2)
    watch.command("hold", b'{"seconds": 1}\n')
    fires(watch)


@pytest.mark.parametrize("answers", [[500, 401, 503, 200], [522] * 6])
def test_it_calls_again_until_the_machine_is_gone(watch: Watch, answers: list[int | str]) -> None:
    watch.provider.answers = answers
    watch.install()
    fires(watch, 8)  # also after one that went well: that is no proof
    assert watch.state()["tries"] >= 7


def test_it_waits_longer_and_longer_but_not_for_ever(watch: Watch) -> None:
    watch.install(retry_s=0.05, retry_max_s=0.4)
    fires(watch, 8)
    at = [call[3] for call in watch.provider.calls]
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert gaps[2] >= 0.2
    assert gaps[4] >= 0.4


def test_nobody_there_is_tried_again(watch: Watch) -> None:
    port = watch.provider.url.rpartition(":")[2]
    watch.install(hook={"url": "http://127.0.0.1:1/pause", "timeout_s": 5})
    watch.until("three tries", lambda: watch.state()["tries"] >= 3)
    assert "refused" in watch.state()["last"]
    watch.install(hook={"url": f"http://127.0.0.1:{port}/pause"})
    fires(watch)


def test_a_client_who_comes_back_in_time_is_noticed(watch: Watch) -> None:
    watch.provider.answers = [500] * 1000
    watch.install(retry_max_s=0.05)
    fires(watch, 2)
    watch.command("hold", b'{"seconds": 1000}\n')
    watch.until("the hold", lambda: watch.state()["phase"] == "held")
    assert watch.state()["tries"] == 0


def test_the_deadline_holds_although_a_job_runs(watch: Watch) -> None:
    watch.job()
    watch.install(deadline_s=0.5, idle_s=1000)
    fires(watch)
    assert "pausing because the deadline of 0.5 s is over" in watch.state()["reason"]


def test_another_configuration_takes_the_place_of_the_first(watch: Watch) -> None:
    first = watch.install(idle_s=1000)
    second = watch.install(idle_s=0.1)
    assert first["pid"] == second["pid"]
    fires(watch)


def test_of_two_started_one_watches(watch: Watch) -> None:
    first = watch.install(idle_s=1000)
    pids = {watch.install(idle_s=1000)["pid"] for _ in range(3)}
    assert pids == {first["pid"]} == {watch.pid()}


def test_a_hangup_does_not_end_it(watch: Watch) -> None:
    watch.install(idle_s=1)
    os.kill(watch.pid(), signal.SIGHUP)
    fires(watch)
    assert watch.state()["alive"] is True


def test_it_is_tied_to_nobody(watch: Watch) -> None:
    watch.install(idle_s=1000)
    pid = watch.pid()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) not in {pid, os.getsid(0)}  # a session whose leader is gone: no terminal
    open_files = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    allowed = {"/dev/null", str(watch.folder / "watchdog.err"), str(watch.folder / "lock")}
    assert set(open_files) <= allowed


def test_one_that_was_killed_is_started_again_by_the_next_install(watch: Watch) -> None:
    watch.install(idle_s=1000)
    pid = watch.pid()
    os.kill(pid, signal.SIGKILL)
    watch.until("its death", lambda: not watch.state()["alive"])
    assert watch.install(idle_s=1000)["pid"] != pid


def test_the_secret_is_in_one_private_file_and_nowhere_else(watch: Watch) -> None:
    watch.provider.answers = [500] * 1000
    watch.install(secret=f"{SECRET}\rx", retry_max_s=0.05)  # a value that HTTP does not allow
    watch.until("a try", lambda: watch.state()["tries"] >= 2)
    assert "Invalid header value" in watch.state()["last"]
    where = [path for path in watch.root.rglob("*") if path.is_file()]
    assert [path.name for path in where if SECRET.encode() in path.read_bytes()] == ["headers"]
    for path in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                assert SECRET.encode() not in (path / name).read_bytes(), path
            except OSError:
                continue  # it has ended, or is none of ours
    assert stat.S_IMODE(watch.folder.stat().st_mode) == 0o700
    loose = [path.name for path in where if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert loose == []


def test_the_key_does_not_follow_to_another_address(watch: Watch, twin: Watch) -> None:
    watch.provider.answers = [f"{twin.provider.url}/elsewhere"] * 3
    watch.install()
    fires(watch, 4)
    assert twin.provider.calls == []


def test_a_check_that_fails_is_said_at_once(watch: Watch) -> None:
    watch.provider.answers = [401]
    check = {"method": "GET", "url": f"{watch.provider.url}/balance"}
    assert watch.install(check=check, idle_s=1000)["check"] == "HTTP 401"
    assert watch.install(check=check, idle_s=1000)["check"] == ""


def test_nonsense_in_its_folder_does_not_keep_it_from_acting(watch: Watch) -> None:
    watch.install(idle_s=1)
    (watch.folder / "config.json").write_bytes(b"{")
    (watch.folder / "hold").write_bytes(b"nonsense")
    watch.jobs.mkdir()
    (watch.jobs / "file").write_bytes(b"")
    watch.until("its complaint", lambda: (watch.folder / "watchdog.err").stat().st_size > 0)
    fires(watch)


def test_removed_it_is_gone_with_its_secret(watch: Watch) -> None:
    watch.install(idle_s=1000)
    pid = watch.pid()
    assert watch.command("remove") == {"phase": "absent", "alive": False}
    assert not watch.folder.exists()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert watch.command("remove")["alive"] is False


def test_a_hook_that_cannot_be_called_is_said(watch: Watch) -> None:
    watch.install(hook={"argv": ["no such program"]})
    watch.until("two tries", lambda: watch.state()["tries"] >= 2)
    assert "FileNotFoundError" in watch.state()["last"]
