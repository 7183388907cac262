"""The watchdog from the near end, over a real ssh connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from far_machine import FOREVER, Machine
from far_rig import until
from watch_rig import SECRET, Provider

from backends.ssh import watch
from backends.ssh.watch import Watched
from backends.ssh.workplace import Workplace

HEADERS = f"Authorization: Bearer {SECRET}\n".encode()
LONG, SHORT, POLL = timedelta(hours=1), timedelta(seconds=1), timedelta(milliseconds=20)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


def install(place: Workplace, provider: Provider, idle: timedelta) -> Watched:
    hook = watch.Request(f"{provider.url}/pause")
    return watch.install(place, hook, idle=idle, secret_headers=HEADERS, poll=POLL, retry=POLL)


def test_it_pauses_when_the_job_is_over_and_nobody_comes(
    machine: Machine, provider: Provider
) -> None:
    place = machine.place()
    machine.launch(place, machine.job(FOREVER))
    assert install(place, provider, SHORT).alive
    place.end("job")
    place.host.close()
    until("its call", lambda: provider.calls)
    assert provider.calls[0][:3] == ("POST", "/pause", f"Bearer {SECRET}")
    assert "pausing because" in watch.look(place).reason
    watch.remove(place)
    assert not (machine.root / "watch").exists()
    assert watch.look(place) == Watched(alive=False, phase="absent")
    watch.remove(place)


def test_every_call_of_the_workplace_is_a_sign_of_a_client(
    machine: Machine, provider: Provider
) -> None:
    place = machine.place()
    install(place, provider, LONG)
    seen = machine.root / "watch" / "seen"
    for call in (lambda: watch.touch(place), lambda: place.status("job"), place.jobs):
        before = seen.stat().st_mtime_ns
        call()
        assert seen.stat().st_mtime_ns > before


def test_a_hold_is_taken_in(machine: Machine, provider: Provider) -> None:
    place = machine.place()
    install(place, provider, LONG)
    watch.hold(place, LONG)
    until("the hold", lambda: watch.look(place).phase == "held")
    watch.hold(place, timedelta(0))
    until("its end", lambda: watch.look(place).phase == "watching")


def test_what_a_wrong_key_would_do_is_said_at_once(machine: Machine, provider: Provider) -> None:
    provider.answers = [401]
    found = watch.install(
        machine.place(),
        watch.Command(("true",)),
        idle=LONG,
        deadline=LONG,
        check=watch.Request(f"{provider.url}/balance", method="GET"),
    )
    assert found.check == "HTTP 401"


def test_the_secret_is_in_no_argument(machine: Machine, provider: Provider) -> None:
    install(machine.place(), provider, LONG)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert SECRET.encode() not in path.read_bytes()
        except OSError:
            continue
