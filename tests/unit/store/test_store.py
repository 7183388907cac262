"""The journal holds what it was told, for many processes at once, through upgrades."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from backends import BadInput, Files, Lease, Money, Phase, Refused
from launcher.store import Store, open_store
from launcher.store.schema import MIGRATIONS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def add(store: Store, name: str = "demo") -> str:
    return store.add_run(
        run_id=f"id-{name}",
        name=name,
        recipe="quickstart",
        backend="local",
        output_dir=Path("/out"),
        spec="{}",
    ).id


def test_a_run_is_found_by_name_and_by_id(store: Store) -> None:
    run_id = add(store)
    assert store.run("demo").id == store.run(run_id).id == "id-demo"
    assert store.run("demo").phase is Phase.QUEUED


def test_a_name_is_taken_once(store: Store) -> None:
    add(store)
    with pytest.raises(BadInput, match="already"):
        add(store)


def test_an_unknown_run_is_said_so(store: Store) -> None:
    with pytest.raises(BadInput, match="no run named 'nobody'"):
        store.run("nobody")
    with pytest.raises(BadInput, match="no run yet"):
        store.last_run()


def test_a_job_keeps_its_lease_from_intent_to_close(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    assert job.intent_at is None
    store.mark_intent(job.id)
    assert store.job(job.id).intent_at is not None
    files = Files("local", "ftl-x", {"dir": "/x"})
    lease = Lease("local", "1", "ftl-x", files, datetime.now(UTC), {"pid": "1"})
    store.save_lease(job.id, lease)
    store.mark_launched(job.id)
    assert store.job(job.id).lease == lease
    assert [run.name for run in store.runs(alive=True)] == ["demo"]
    store.mark_ended(job.id, Phase.SUCCEEDED, exit_code=0, reason="", cost=Money(Decimal("0.10")))
    store.mark_closed(job.id, files)
    closed = store.job(job.id)
    assert closed.lease is None
    assert closed.files == files
    assert closed.cost == Money(Decimal("0.10"))
    assert store.runs(alive=True) == []


def test_a_job_that_is_being_launched_cannot_be_ended_as_if_it_were_not(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    assert store.mark_intent(job.id)
    assert not store.mark_not_begun(job.id, "stopped before it began")
    assert store.job(job.id).ended_at is None
    other = store.add_job(run_id=run_id, kind="merge", name="ftl-y", spec="{}", offer="{}")
    assert store.mark_not_begun(other.id, "stopped before it began")
    assert not store.mark_intent(other.id)


def test_a_job_is_on_the_runs_backend_unless_another_is_named(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    other = store.add_job(
        run_id=run_id, kind="merge", name="ftl-y", spec="{}", offer="{}", backend="jarvis:vm"
    )
    assert (job.backend, other.backend) == ("local", "jarvis:vm")
    assert store.job_names() == {"ftl-x", "ftl-y"}


def test_a_held_job_is_alive_and_no_longer_open_until_somebody_stops_it(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    assert store.job(job.id).open
    store.mark_held(job.id)
    assert store.job(job.id).held
    assert not store.job(job.id).open
    assert [run.name for run in store.runs(alive=True)] == ["demo"]
    store.ask_stop(job.id, timedelta())
    assert store.job(job.id).open
    assert store.job(job.id).stop_at is not None
    store.mark_held(job.id)
    store.mark_closed(job.id, None)
    assert not store.job(job.id).held
    assert store.runs(alive=True) == []


def test_the_last_measurement_of_an_uplink_counts(store: Store) -> None:
    assert store.uplink("jarvis") is None
    store.save_uplink("jarvis", sent_bytes=1000, seconds=10)
    store.save_uplink("jarvis", sent_bytes=500, seconds=2)
    seen = store.uplink("jarvis")
    assert seen is not None
    assert seen.bytes_per_second == 250
    assert store.uplink("other") is None


def test_what_is_written_together_is_written_whole_or_not_at_all(store: Store) -> None:
    def half() -> None:
        with store.together():
            add(store)
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert store.count_runs() == 0


def test_odd_bytes_in_a_message_are_no_reason_to_fail(store: Store) -> None:
    run_id = add(store)
    store.say(run_id, "progress", "caf\udce9")
    assert store.events(run_id)[0].text == "caf\\udce9"


def test_a_verdict_once_recorded_stays(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    store.mark_ended(job.id, Phase.FAILED, exit_code=3, reason="first", cost=None)
    store.mark_ended(job.id, Phase.SUCCEEDED, exit_code=0, reason="second", cost=None)
    assert store.job(job.id).phase is Phase.FAILED
    assert store.job(job.id).exit_code == 3


def test_events_are_told_once_and_in_order(store: Store) -> None:
    run_id = add(store)
    for number in range(5):
        store.say(run_id, "progress", str(number), data={"n": number})
    first = store.events(run_id)
    assert [event.text for event in first] == ["0", "1", "2", "3", "4"]
    assert [event.data["n"] for event in store.events(run_id, after=first[2].id)] == [3, 4]


def test_a_removed_run_takes_its_jobs_and_events_along(store: Store) -> None:
    run_id = add(store)
    job = store.add_job(run_id=run_id, kind="train", name="ftl-x", spec="{}", offer="{}")
    store.say(run_id, "x", "y")
    with pytest.raises(BadInput, match="another job"):
        store.remove_run(run_id)
    assert len(store.jobs(run_id)) == 1
    store.mark_closed(job.id, None)
    store.remove_run(run_id)
    assert store.count_runs() == 0
    assert store.jobs(run_id) == []
    assert store.events(run_id) == []


def test_pages_do_not_overlap(store: Store) -> None:
    for number in range(7):
        add(store, f"run-{number}")
    pages = [store.runs(limit=3, offset=offset) for offset in (0, 3, 6)]
    names = [run.name for page in pages for run in page]
    assert len(names) == len(set(names)) == 7


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    open_store(tmp_path)
    script = (
        "import sys; from pathlib import Path; from launcher.store import open_store\n"
        "store = open_store(Path(sys.argv[1])); me = sys.argv[2]\n"
        "run = store.add_run(run_id=me, name=me, recipe='r', backend='local',"
        " output_dir=Path('/o'), spec='{}')\n"
        "for n in range(40): store.say(run.id, 'k', str(n))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), f"w{n}"]) for n in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    store = open_store(tmp_path)
    for number in range(4):
        assert [e.text for e in store.events(f"w{number}")] == [str(n) for n in range(40)]


def test_many_processes_make_the_store_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from launcher.store import open_store\n"
        "open_store(Path(sys.argv[1])).runs()\n"
    )
    makers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(5)]
    assert [maker.wait(60) for maker in makers] == [0] * 5


def test_a_store_of_a_newer_ftlaunch_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    db = sqlite3.connect(tmp_path / "ftlaunch.db")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(Refused, match="newer ftlaunch"):
        open_store(tmp_path)


def test_a_store_of_any_older_format_is_brought_up_to_date(tmp_path: Path) -> None:
    for version in range(len(MIGRATIONS)):
        folder = tmp_path / str(version)
        folder.mkdir()
        db = sqlite3.connect(folder / "ftlaunch.db")
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        add(open_store(folder))


def test_jobs_of_an_older_format_are_on_the_backend_of_their_run(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "ftlaunch.db")
    db.executescript(MIGRATIONS[0])
    at = "2026-01-01T00:00:00+00:00"
    db.execute(
        "INSERT INTO runs VALUES ('r', 'n', 'x', 'stranger', '/o', ?, ?, 'lost', '')", (at, at)
    )
    db.execute(
        "INSERT INTO jobs (run_id, kind, name, spec, offer, phase, created_at) "
        "VALUES ('r', 'train', 'j', '', '', 'queued', ?)",
        (at,),
    )
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    (job,) = open_store(tmp_path).jobs("r")
    assert job.backend == "stranger"
    assert job.open


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused, match="cannot be opened"):
        open_store(tmp_path / "file")
    (tmp_path / "ftlaunch.db").write_text("not a database, but long enough to be looked at" * 9)
    with pytest.raises(Refused, match="cannot be opened"):
        open_store(tmp_path)


def test_what_is_no_time_is_neither_written_nor_read_as_one(store: Store) -> None:
    def save(job: str, step_s: float | None, **seconds: float) -> None:
        store.save_measurement(
            job=job,
            backend="jarvis",
            gpu="L4",
            count=1,
            method="lora",
            step_s=step_s,
            peak_gib=float("inf"),
            seconds=seconds,
            workload="w",
        )

    save("a", -1.0, pull=-3.0, start=0.0, load=float("nan"), merge=2.5)
    (found,) = store.measurements()
    assert (found.step_s, found.peak_gib, found.seconds) == (None, None, {"merge": 2.5})

    damaged = [
        '{"pull": -1, "start": "x", "load": true, "merge": NaN, "train": 4}',
        "{",
        "[1]",
        "7",
        '{"pull": 1' + "0" * 400 + "}",
    ]
    for number, text in enumerate(damaged):
        save(f"d{number}", 1.0)
        with store._writing() as db:
            db.execute(
                "UPDATE measurements SET seconds = ?, step_s = 0, peak_gib = -9e999 WHERE job = ?",
                (text, f"d{number}"),
            )
    save("e", 1.0)
    with store._writing() as db:
        db.execute("UPDATE measurements SET at = 'then' WHERE job = 'e'")
    whole = {one.job: one for one in store.measurements()}
    assert set(whole) == {"a", "d0", "d4"}
    assert (whole["d0"].step_s, whole["d0"].peak_gib) == (None, None)
    assert (whole["d0"].seconds, whole["d4"].seconds) == ({"train": 4}, {})
