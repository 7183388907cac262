"""The main job on this machine, with real axolotl on the tiny recipe.

Each test is a story of one run, since every axolotl command costs some fifteen seconds of imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import environment
from launcher.run.inventory import newest_checkpoint

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

CANARY = "canary-4f1d8a77c2-do-not-print"

LOAD = """
import json, sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, merged = sys.argv[1:]
tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
whole = AutoModelForCausalLM.from_pretrained(merged)
ids = AutoTokenizer.from_pretrained(merged)("one two", return_tensors="pt")["input_ids"]
import torch
with torch.no_grad():
    apart = float((tuned(ids).logits - whole(ids).logits).abs().max())
print(json.dumps({"apart": apart}))
"""

TENSORS = """
import hashlib, sys
from safetensors import safe_open
digest = hashlib.sha256()
with safe_open(sys.argv[1], "pt") as file:
    for name in sorted(file.keys()):
        digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="session")
def axolotl() -> Path:
    """The managed environment's Python, made once for all."""
    prefix = environment.ensure(environment.choose({}, gpu=False))
    return environment.python_of(prefix)


def in_axolotl(python: Path, script: str, *argv: str | Path) -> str:
    done = subprocess.run(
        [str(python), "-c", script, *map(str, argv)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return done.stdout.strip().splitlines()[-1]


def weights(python: Path, adapter: Path) -> str:
    """The sha256 over the tensors: what "equal" means between two trainings."""
    return in_axolotl(python, TENSORS, adapter / "adapter_model.safetensors")


def eventually(what: Callable[[], Any], *, within: float = 240) -> Any:
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return found


def state_of(desk: Any, kind: str) -> dict[str, Any]:
    """The runner's own state of a run's newest job of this kind."""
    store = desk.store()
    try:
        runs = store.runs(limit=1)
        jobs = [job for job in store.jobs(runs[0].id) if job.kind == kind] if runs else []
    finally:
        store.close()
    if not jobs or jobs[-1].files is None:
        return {}
    path = next((desk.state / "backends").rglob(f"{jobs[-1].name}/state.json"), None)
    if path is None:
        return {}
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def trained_steps(desk: Any) -> int:
    return int(state_of(desk, "train").get("last_metrics", {}).get("step", 0))


def test_from_recipe_to_verified_artifacts(desk: Any, axolotl: Path) -> None:
    desk.variables["MY_TOKEN"] = CANARY
    ended = desk.run("train", "tiny", "-n", "first", "-s", "MY_TOKEN", "-y")
    assert ended.code == 0, ended.said
    out = desk.here / "runs" / "first"

    # Training and merging were jobs of their own, the second on the files of the first.
    facts = desk.run("inspect", "first", "--json").json()
    assert [job["kind"] for job in facts["jobs"]] == ["train", "merge"]
    assert {job["phase"] for job in facts["jobs"]} == {"succeeded"}
    assert all(job["closed_at"] for job in facts["jobs"])

    # Every file that came home is what its manifest says.
    manifests = {path.stem: json.loads(path.read_text()) for path in (out / "manifests").iterdir()}
    assert set(manifests) == {"train-1", "merge-2"}
    rows = [*manifests["merge-2"]["files"], *manifests["train-1"]["files"]]
    # Both commands write a debug.log; the one that came home is the training's.
    rows = list({row["path"]: row for row in rows}.values())
    home = [row for row in rows if (out / row["path"]).exists()]
    assert {"output/adapter_model.safetensors", "output/merged/model.safetensors"} <= {
        row["path"] for row in home
    }
    for row in home:
        content = (out / row["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"], row["path"]

    # The adapter and the merged model are usable as they are, and are the same model.
    base = Path(__file__).parents[2] / "configs" / "tiny" / "model"
    loaded = in_axolotl(axolotl, LOAD, base, out / "output", out / "output" / "merged")
    assert json.loads(loaded)["apart"] < 1e-3

    # The secret reached the job as a variable and is written nowhere.
    for path in (*desk.state.rglob("*"), *desk.here.rglob("*")):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path

    # A second training from the same adapter is bit-equal; the user's files were not touched.
    again = desk.run("train", "tiny", "-n", "second", "--no-merge", "--json")
    assert again.code == 0, again.said
    second = desk.here / "runs" / "second" / "output"
    assert weights(axolotl, second) == weights(axolotl, out / "output")


def test_questions_to_a_run(desk: Any) -> None:
    assert desk.run("train", "tiny", "-n", "asked", "--no-merge").code == 0
    one = desk.run("inference", "-p", "one two three", "--json")
    assert one.code == 0, one.said
    assert isinstance(one.json()["answer"], str)

    (desk.here / "in.jsonl").write_text('{"prompt": "one"}\nbroken\n{"prompt": "two"}\n')
    how = ("--max-new-tokens", "8")
    many = desk.run("inference", "--prompts", "in.jsonl", "-o", "out.jsonl", *how)
    assert many.code == 0, many.said
    rows = [json.loads(line) for line in (desk.here / "out.jsonl").read_text().splitlines()]
    assert ["answer" in row for row in rows] == [True, False, True]
    assert "error" in rows[1]

    evaluated = desk.run("evaluate", "asked")
    assert evaluated.code == 0, evaluated.said
    assert desk.run("merge", "asked").code == 0
    merged = desk.here / "runs" / "asked" / "output" / "merged"
    assert (merged / "model.safetensors").stat().st_size > 0


def test_stop_keeps_a_checkpoint_and_resume_goes_on_from_it(desk: Any, axolotl: Path) -> None:
    # Long enough for two commands of ours to come in between, on a machine that is busy too.
    long = ("--set", "max_steps=400", "--set", "save_steps=10000", "--set", "eval_steps=10000")
    following = desk.start("train", "tiny", "-n", "halted", *long)
    eventually(lambda: trained_steps(desk) >= 3)

    # Ctrl-C only stops watching, and says how to come back.
    following.send_signal(signal.SIGINT)
    said, _ = following.communicate(timeout=60)
    assert following.returncode == 130, said
    assert "ftlaunch logs -f halted" in said
    assert desk.run("ps").out.count("halted") == 1

    stopped = desk.run("stop", "halted")
    assert stopped.code == 0, stopped.said
    assert desk.run("wait", "halted").code == 130
    state = state_of(desk, "train")
    assert state["phase"] == "stopped"
    newest = newest_checkpoint(state)
    assert newest is not None
    assert (desk.here / "runs" / "halted" / newest / "trainer_state.json").exists()

    resumed = desk.run("resume", "halted")
    assert resumed.code == 0, resumed.said
    whole = desk.run("train", "tiny", "-n", "whole", "--no-merge", *long)
    assert whole.code == 0, whole.said
    assert weights(axolotl, desk.here / "runs/halted/output") == weights(
        axolotl, desk.here / "runs/whole/output"
    )


def test_a_run_that_is_killed_is_lost_and_what_it_left_is_saved(desk: Any) -> None:
    long = ("--set", "max_steps=100000", "--set", "save_steps=5", "--set", "eval_steps=100000")
    started = desk.run("train", "tiny", "-n", "doomed", "-d", *long)
    assert started.code == 0, started.said
    state = eventually(
        lambda: (
            (s := state_of(desk, "train"))
            and any(row["complete"] for row in s.get("checkpoints", ()))
            and s
        )
    )
    os.kill(state["pid"], signal.SIGKILL)
    os.killpg(state["pgid"], signal.SIGKILL)
    waited = desk.run("wait", "doomed")
    assert waited.code == 6, waited.said
    assert "lost" in waited.out
    saved = desk.here / "runs" / "doomed" / "output"
    assert list(saved.glob("checkpoint-*/trainer_state.json"))


def test_axolotl_failing_shows_its_last_lines_and_where_the_log_is(desk: Any) -> None:
    # What is wrong with it would be told beforehand; axolotl is to find it itself.
    wrong = ("--no-preflight", "--set", "optimizer=no_such_optimizer")
    ended = desk.run("train", "tiny", "-n", "failing", *wrong)
    assert ended.code == 1, ended.said
    assert "no_such_optimizer" in ended.said
    assert "ftlaunch logs failing" in ended.said
    assert "Traceback (most recent call last):\n" not in ended.err
    facts = desk.run("inspect", "failing", "--json").json()
    assert facts["jobs"][0]["exit_code"] not in {0, None}
    assert facts["jobs"][1]["phase"] == "stopped"


def test_a_limit_in_time_travels_with_the_job(desk: Any) -> None:
    long = ("--set", "max_steps=100000", "--set", "eval_steps=100000")
    ended = desk.run("train", "tiny", "-n", "capped", "--max-duration", "45s", *long)
    assert ended.code == 7, ended.said
    assert desk.run("wait", "capped").code == 7
    assert state_of(desk, "train")["phase"] == "expired"


def test_only_preprocessing(desk: Any) -> None:
    ended = desk.run("preprocess", "tiny", "-n", "tokens")
    assert ended.code == 0, ended.said
    facts = desk.run("inspect", "tokens", "--json").json()
    assert [job["kind"] for job in facts["jobs"]] == ["preprocess"]
