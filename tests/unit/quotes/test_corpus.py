"""Every config a person may hold yields a plan, or one clear sentence: never a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.bundled import configs_dir
from launcher.cli import cli
from launcher.cli.ending import run as command

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yml"))

_SAMPLES = "samples answers while it trains, which cannot be estimated"
REFUSED = {
    "ebft": (3, _SAMPLES),
    "gdpo": (3, _SAMPLES),
    "grpo": (3, _SAMPLES),
    "grpo-async": (3, _SAMPLES),
    "ia3": (3, "adapter 'ia3' is none that can be estimated"),
    "llama-adapter": (3, "adapter 'llama-adapter' is none that can be estimated"),
    "vera-like-adapter": (3, "adapter 'vera' is none that can be estimated"),
    "mamba": (2, "the shape of state-spaces/mamba-2.8b is not known"),
    "multimodal-audio": (2, "the shape of mistralai/Voxtral-Mini-3B-2507 is not known"),
    "unknown-model": (2, "the shape of nobody/Unheard-Of-13B is not known"),
    "deepseek-v3": (3, "it fits nowhere: on B300 x 1 it lacks"),
    "gigantic-sequence": (3, "it fits nowhere"),
    "moe-expert-parallel": (3, "it fits nowhere: on B300 x 8 it lacks"),
    "no-model": (2, "the recipe names no base_model"),
}
"""By name: the exit code, and words of the sentence."""

TURNS = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
ASKED = {"instruction": "say ho", "input": "", "output": "ho"}
PAIR = {"system": "", "question": "hi", "chosen": "ho", "rejected": "no"}
PARTS = {"segments": [{"label": True, "text": "ho"}]}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without anything, and a folder with what the configs name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    here = tmp_path / "here"
    (here / "more").mkdir(parents=True)
    for name, row in {
        "rows.jsonl": TURNS,
        "more/rows.jsonl": TURNS,
        "alpaca.jsonl": ASKED,
        "pairs.jsonl": PAIR,
        "text.jsonl": {"body": "a long text"},
        "segments.jsonl": PARTS,
    }.items():
        (here / name).write_text((json.dumps(row) + "\n") * 100)
    (here / "rows.csv").write_text("text\n" + "a row\n" * 100)
    (here / "tokens.parquet").write_bytes(b"PAR1 and what is no parquet")
    shutil.copytree(configs_dir() / "tiny" / "model", here / "model")
    (here / "earlier-adapter").mkdir()
    (here / "earlier-adapter" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(here)
    return here


def sentence(err: str) -> str:
    """What was said of the mistake: the lines that are not hints."""
    assert "Traceback" not in err
    (said,) = (line for line in err.splitlines() if line.startswith("ftlaunch: "))
    return said


@pytest.mark.parametrize("config", CORPUS, ids=lambda path: path.stem)
def test_estimate(config: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(config, desk)
    code = command(cli, ["estimate", config.name])
    said = capsys.readouterr()
    if config.stem in REFUSED:
        expected, words = REFUSED[config.stem]
        assert code == expected, said.err
        assert words in sentence(said.err)
        return
    assert code == 0, said.err
    assert said.out.startswith("model: ")
    assert "** " in said.out


@pytest.mark.parametrize("config", CORPUS, ids=lambda path: path.stem)
def test_dry_run(config: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(config, desk)
    code = command(cli, ["train", config.name, "--dry-run", "-b", "modal", "-g", "H100"])
    said = capsys.readouterr()
    if code == 0:
        assert said.out.startswith("run ")
    else:
        assert code in {2, 3}, said.err
        assert len(sentence(said.err)) > 30


def test_it_is_large_enough() -> None:
    assert len(CORPUS) >= 60
