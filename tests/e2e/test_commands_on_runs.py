"""What one does to runs all day, on real runs of toy jobs: nothing here needs axolotl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_run import Toy, toy

from backends.offer import FREE, Offer
from launcher.run import spec

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))


def conduct(made: Toy) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "launcher.run.conductor", made.run.id]
    return subprocess.Popen(argv, env=made.environ, start_new_session=True)


def ask(made: Toy, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FTLAUNCH, *argv],
        env={**made.environ, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Toy]:
    with toy(tmp_path, seconds=0.1) as made:
        assert conduct(made).wait(60) == 0
        yield made


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Toy]:
    with toy(tmp_path, seconds=60) as made:
        process = conduct(made)
        end = time.monotonic() + 60
        while made.store.jobs(made.run.id)[0].launched_at is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield made
        ask(made, "stop", "--now", "toy")
        process.wait(60)


def test_ps_shows_what_is_alive_and_with_a_all(running: Toy) -> None:
    assert "toy" in ask(running, "ps").stdout
    rows = json.loads(ask(running, "ps", "--json").stdout)
    assert [(row["name"], row["job"]) for row in rows] == [("toy", "train")]
    assert ask(running, "stop", "--now", "toy").returncode == 0
    assert "no run is alive; 1 ended" in ask(running, "ps").stdout
    assert "stopped" in ask(running, "ps", "-a").stdout


def test_logs_are_whole_in_order_and_can_be_cut(ended: Toy) -> None:
    lines = ask(ended, "logs", "toy").stdout.splitlines()
    said = [line for line in lines if "| line" in line]
    wanted = [f"{kind} | line {n} of {kind}" for kind in ("train", "merge") for n in range(20)]
    assert said == wanted
    assert len(ask(ended, "logs", "-n", "3", "toy").stdout.splitlines()) == 3
    only = ask(ended, "logs", "--step", "merge", "toy").stdout
    assert "of merge" in only
    assert "of train" not in only
    first = json.loads(ask(ended, "logs", "--json", "toy").stdout.splitlines()[0])
    assert set(first) == {"step", "time", "text"}


def test_logs_followed_from_the_start_miss_and_double_nothing(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=1.5) as made:
        process = conduct(made)
        followed = ask(made, "logs", "-f", "toy")
        assert process.wait(60) == 0
        said = [line for line in followed.stdout.splitlines() if "| line" in line]
        wanted = [f"{kind} | line {n} of {kind}" for kind in ("train", "merge") for n in range(20)]
        assert said == wanted
        assert followed.returncode == 0


def test_inspect_shows_jobs_and_commands(ended: Toy) -> None:
    facts = json.loads(ask(ended, "inspect", "toy", "--json").stdout)
    assert [job["kind"] for job in facts["jobs"]] == ["train", "merge"]
    assert all(job["closed_at"] for job in facts["jobs"])
    assert "job merge" in ask(ended, "inspect").stdout


def test_wait_gives_the_verdict(ended: Toy) -> None:
    assert ask(ended, "wait", "toy").returncode == 0


def test_wait_finishes_what_a_killed_conductor_began(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=1) as made:
        process = conduct(made)
        time.sleep(0.7)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert ask(made, "wait", "toy").returncode == 0
        assert (made.out / "output" / "merge").exists()


def test_stop_now_ends_it_and_leaves_out_what_follows(running: Toy) -> None:
    stopped = ask(running, "stop", "--now", "toy")
    assert stopped.returncode == 0, stopped.stderr
    facts = json.loads(ask(running, "inspect", "toy", "--json").stdout)
    assert [job["phase"] for job in facts["jobs"]] == ["stopped", "stopped"]
    assert ask(running, "wait", "toy").returncode == 130
    assert "ended already" in ask(running, "stop", "toy").stdout


def test_a_run_that_is_alive_is_not_removed(running: Toy) -> None:
    refused = ask(running, "rm", "toy", "-y")
    assert refused.returncode == 2
    assert "ftlaunch stop toy" in refused.stderr


def test_rm_removes_what_is_kept_and_leaves_what_was_pulled(ended: Toy) -> None:
    assert ask(ended, "rm", "toy").returncode == 0
    assert (ended.out / "output" / "train").exists()
    assert ask(ended, "inspect", "toy").returncode == 2
    left = [path for path in (ended.state / "backends").rglob("*") if path.is_file()]
    assert [path for path in left if "runs" in path.parts] == []


def test_pull_again_skips_and_mends(ended: Toy, tmp_path: Path) -> None:
    kept = ended.out / "output" / "train"
    before = kept.stat().st_mtime_ns
    damaged = ended.out / "output" / "merge"
    damaged.write_text("damaged")
    assert ask(ended, "pull", "toy").returncode == 0
    assert kept.stat().st_mtime_ns == before
    assert damaged.read_text() == "made by merge"
    other = tmp_path / "else where"
    assert ask(ended, "pull", "toy", "-o", str(other), "--json").returncode == 0
    assert (other / "output" / "merge").read_text() == "made by merge"


def test_what_is_here_already_can_be_had_in_another_folder(ended: Toy, tmp_path: Path) -> None:
    for job in ended.store.jobs(ended.run.id):
        ended.store.mark_closed(job.id, None)  # nothing is at the provider any more
    other = tmp_path / "else where"
    told = ask(ended, "pull", "toy", "-o", str(other))
    assert "train: here already" in told.stdout
    assert (other / "output" / "merge").read_text() == "made by merge"
    assert (other / "manifests").is_dir()
    assert ask(ended, "pull", "toy").returncode == 0
    (ended.out / "output" / "train").write_text("damaged")
    assert "is not what it was" in ask(ended, "pull", "toy", "-o", str(other)).stderr


def test_a_log_that_is_followed_begins_with_the_training_that_runs(ended: Toy) -> None:
    first = ended.store.jobs(ended.run.id)[0]
    offer = spec.offer_to_json(Offer("local", None, 0, FREE))
    ended.store.add_job(
        run_id=ended.run.id, kind="train", name="again", spec=first.spec, offer=offer
    )
    conductor = conduct(ended)
    told = ask(ended, "logs", "-f", "toy")
    assert conductor.wait(60) == 0
    said = [line for line in told.stdout.splitlines() if "| line" in line]
    assert said == [f"train | line {n} of train" for n in range(20)]
    assert "what came before is in: ftlaunch logs toy" in told.stderr


def test_settings_for_many_prompts_are_refused_for_one(ended: Toy) -> None:
    told = ask(ended, "inference", "-p", "hello", "--max-new-tokens", "5")
    assert told.returncode == 2
    assert "--max-new-tokens is for --prompts" in told.stderr


def test_the_last_run_is_meant_when_none_is_named(ended: Toy) -> None:
    assert "of merge" in ask(ended, "logs").stdout
    assert ask(ended, "wait").returncode == 0


def test_completion_offers_runs_and_recipes(ended: Toy) -> None:
    words = {"_FTLAUNCH_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    runs = ask(ended, COMP_WORDS="ftlaunch logs t", **words)
    assert "toy" in runs.stdout
    recipes = ask(ended, COMP_WORDS="ftlaunch train qui", **words)
    assert "quickstart" in recipes.stdout
    assert "_FTLAUNCH_COMPLETE" in ask(ended, "completion", "bash").stdout


def test_recipes_can_be_listed_shown_and_copied(ended: Toy, tmp_path: Path) -> None:
    names = {row["name"] for row in json.loads(ask(ended, "recipes", "--json").stdout)}
    assert {"quickstart", "tiny"} <= names
    assert "base_model" in ask(ended, "recipes", "show", "tiny").stdout
    mine = tmp_path / "mine"
    copied = ask(ended, "recipes", "copy", "tiny", str(mine))
    assert copied.returncode == 0, copied.stderr
    dry = ask(ended, "train", str(next(mine.glob("*.yml"))), "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert ask(ended, "validate", "tiny").returncode == 0


def test_check_names_every_backend(ended: Toy) -> None:
    assert set(json.loads(ask(ended, "check", "--json").stdout)) >= {"local"}


def test_a_manifest_that_points_elsewhere_is_not_followed(ended: Toy, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    manifest = next((ended.state / "backends").rglob("*train*/manifest.json"))
    content = json.loads(manifest.read_text())
    content["files"].append({"path": "output/../../victim", "size": 3, "sha256": "0" * 64})
    manifest.write_text(json.dumps(content))
    refused = ask(ended, "pull", "toy")
    assert refused.returncode == 6
    assert "outside" in refused.stderr
    assert victim.read_text() == "mine"


def test_a_state_folder_may_be_named_relative_to_here(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1) as made:
        waited = subprocess.run(
            [FTLAUNCH, "wait", "toy"],
            env={**os.environ, "FTLAUNCH_STATE_DIR": "state"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert waited.returncode == 0, waited.stderr
        assert (made.out / "output" / "merge").exists()


def test_a_secret_that_this_terminal_lacks_is_waited_for(tmp_path: Path) -> None:
    with toy(tmp_path, seconds=0.1, secrets=("TOY_KEY",)) as made:
        lacking = ask(made, "wait", "toy")
        assert lacking.returncode == 4, lacking.stderr
        assert all(job.closed_at is None for job in made.store.jobs(made.run.id))
        assert ask(made, "wait", "toy", TOY_KEY="canary").returncode == 0


def test_closing_the_reader_is_no_failure_of_the_run(ended: Toy) -> None:
    piped = subprocess.run(
        f"{FTLAUNCH} logs toy | head -1",
        shell=True,
        env=ended.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(piped.stdout.splitlines()) == 1
    assert "Traceback" not in piped.stderr
