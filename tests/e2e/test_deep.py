"""`validate --deep` with axolotl's own word: one story, since each question takes a while."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import deep, environment, recipe

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]


def test_axolotl_counts_drops_and_masks_as_if_the_gpu_were_here(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.ensure(environment.choose({}, gpu=False))
    assert desk.run("recipes", "copy", "tiny", "mine").code == 0
    data = desk.here / "mine" / "data" / "tiny" / "train.jsonl"
    long = {"role": "assistant", "content": "amber " * 300}
    with data.open("a") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "Say."}, long]}) + "\n")
    before = {path: path.read_bytes() for path in desk.here.rglob("*") if path.is_file()}
    links = environment.cache_dir() / "envs"
    desk.variables["FTLAUNCH_CACHE_DIR"] = str(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "envs").symlink_to(links)

    asked = desk.run("validate", "mine/tiny.yml", "--deep", "-g", "A100")
    assert asked.code == 0, asked.said
    assert "1 of 41 rows of datasets have more than 128 tokens: axolotl drops them" in asked.out
    assert "datasets: 40 of 41 rows stay" in asked.out
    assert "test_datasets: 8 of 8 rows stay" in asked.out
    # The question is masked, the answer is what is trained on.
    assert "What colour is it?<|im_end|>" in asked.out
    assert "«The " in asked.out
    assert "«What" not in asked.out
    assert {path: path.read_bytes() for path in desk.here.rglob("*") if path.is_file()} == before

    # Nothing that rows follow from has changed: they are not made again, nor is axolotl started.
    again = desk.run("validate", "mine/tiny.yml", "--deep", "-g", "A100")
    assert again.out == asked.out
    assert "asking axolotl" in asked.err
    assert "asking axolotl" not in again.err

    # axolotl's own validation sees the GPU that is pretended, of which none is in this machine.
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    wrong = recipe.load("mine/tiny.yml", sets=["fp8=true"], cwd=desk.here)
    refused = {gpu: deep.look(wrong, gpu).refused for gpu in ("A100", "H100")}
    assert any("not supported on this GPU" in says for _, says in refused["A100"])
    assert not any("not supported on this GPU" in says for _, says in refused["H100"])
