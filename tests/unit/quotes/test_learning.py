"""The next estimate is drawn to what earlier runs took, the more the more there are."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from backends.offer import Money, Offer
from launcher import gpus
from launcher.cli import cli
from launcher.cli.ending import run as command
from launcher.estimate import Range, Setup, memory, shapes, speed
from launcher.quotes import learning, quote
from launcher.quotes.learning import NOTHING, Learned, Recorded, drawn
from launcher.quotes.market import Priced
from launcher.quotes.rows import Data
from launcher.quotes.schedule import Schedule
from launcher.quotes.words import drawn as words
from launcher.quotes.workload import Workload
from launcher.store import open_store
from launcher.store.measurements import Measurement

SHAPE = shapes.find("Qwen/Qwen2.5-7B")
SETUP = Setup(method="lora", seq_len=2048, micro_batch=1, grad_accum=2)
DATA = Data(rows=1000, tokens=1_000_000, longest=2048, fed=2048, how="")
WORK = Workload(SHAPE, SETUP, DATA, Schedule(), merges=True)
OTHER = replace(WORK, setup=SETUP.but(micro_batch=2))
L4 = gpus.find("L4")
ESTIMATE = Range(80.0, 100.0, 125.0)


def measured(
    work: Workload = WORK,
    *,
    slower: float = 1.5,
    larger: float = 1.1,
    gpu: str = "L4",
    job: str = "j",
    **seconds: float,
) -> Measurement:
    """A run that took so many times what was estimated for it."""
    step = speed(work.shape, work.setup_fed, L4, 1).step_s.middle
    held = memory(work.shape, work.setup_longest, L4, 1).alloc.middle
    return Measurement(
        job=job,
        at=datetime.now(UTC),
        backend="jarvis",
        gpu=gpu,
        count=1,
        method="lora",
        step_s=slower * step,
        peak_gib=larger * held,
        seconds=seconds,
        workload=learning.to_text(Recorded(work)),
    )


def on_l4(learned: Learned, work: Workload = WORK, gpu: str = "L4") -> quote.Quote:
    offer = Offer("jarvis", gpu, 1, Money(Decimal(1)))
    (found,) = quote.all_of(work, [Priced("jarvis", offer)], learned=learned)
    return found


def factor(found: quote.Quote, plain: quote.Quote, phase: str) -> float:
    return found.phases[phase].middle / plain.phases[phase].middle


def test_nothing_measured_changes_nothing() -> None:
    assert on_l4(learning.of([])) == on_l4(NOTHING)
    assert drawn([], [], ESTIMATE, noise=0.1) == learning.NONE


@pytest.mark.parametrize("same", [True, False], ids=["this recipe", "other recipes"])
def test_the_weight_grows_with_the_runs_and_the_range_narrows(same: bool) -> None:
    ratio = math.log(2.0)
    found = [
        drawn([], [ratio] * n, ESTIMATE, noise=0.08)
        if same
        else drawn([[ratio]] * n, [], ESTIMATE, noise=0.08)
        for n in (1, 2, 4, 8)
    ]
    weights = [one.weight for one in found]
    assert weights == sorted(set(weights))
    assert 0 < weights[0] < weights[-1] < 1
    assert [one.factor for one in found] == sorted({one.factor for one in found})
    assert found[-1].factor < 2.0
    spreads = [one.spread for one in found]
    assert spreads == sorted(set(spreads), reverse=True)
    assert [one.runs for one in found] == [1, 2, 4, 8]


def test_a_run_of_this_recipe_weighs_more_than_one_of_another() -> None:
    one = drawn([], [math.log(2)], ESTIMATE, noise=0.08)
    other = drawn([[math.log(2)]], [], ESTIMATE, noise=0.08)
    assert one.weight > other.weight
    assert one.spread < other.spread


def test_many_runs_of_one_other_recipe_are_not_many_recipes() -> None:
    often = drawn([[0.5] * 50], [], ESTIMATE, noise=0.08)
    several = drawn([[0.5]] * 5, [], ESTIMATE, noise=0.08)
    assert often.weight < several.weight


def test_a_measured_range_keeps_its_order_and_holds_the_middle() -> None:
    found = drawn([[0.4]], [0.5, 0.6], ESTIMATE, noise=0.08).of(ESTIMATE)
    assert found.low < found.middle < found.high
    assert 100 * math.exp(0.45) < found.middle < 100 * math.exp(0.6)
    assert found.high / found.middle < 1.25


def test_the_same_recipe_is_estimated_near_to_what_it_took() -> None:
    plain = on_l4(NOTHING)
    assert plain.memory is not None
    found = on_l4(learning.of([measured(job=str(n)) for n in range(3)]))
    assert factor(found, plain, "train") == pytest.approx(1.5, rel=0.07)
    assert found.memory is not None
    assert found.memory.alloc.middle == pytest.approx(1.1 * plain.memory.alloc.middle, rel=0.03)
    assert found.memory.nvml.middle > plain.memory.nvml.middle
    assert (found.pace.runs, found.pace.same) == (3, 3)
    assert found.cost is not None
    assert plain.cost is not None
    assert found.cost[1].amount > plain.cost[1].amount


def test_another_recipe_on_that_gpu_is_drawn_there_by_half() -> None:
    plain, learned = on_l4(NOTHING, OTHER), learning.of([measured()])
    found = on_l4(learned, OTHER)
    assert 1.05 < factor(found, plain, "train") < 1.45
    assert (found.pace.runs, found.pace.same) == (1, 0)


@pytest.mark.parametrize(
    "one",
    [
        measured(gpu="H100"),
        measured(replace(WORK, setup=SETUP.but(method="full"))),
        measured(gpu="Riva TNT2"),
        replace(measured(), workload="{}"),
        replace(measured(), step_s=None, peak_gib=None),
    ],
    ids=["another GPU", "another method", "no known GPU", "another form", "too few steps"],
)
def test_what_says_nothing_of_this_is_passed_over(one: Measurement) -> None:
    assert on_l4(learning.of([one])).pace == learning.NONE
    assert on_l4(learning.of([one])).held == learning.NONE


def test_a_peak_above_the_card_turns_the_verdict() -> None:
    plain = on_l4(NOTHING)
    assert plain.fits == "tight"
    assert plain.memory is not None
    card = plain.memory.usable / plain.memory.alloc.middle
    above = [measured(larger=1.02 * card, job=str(n)) for n in range(3)]
    assert on_l4(learning.of(above)).fits == "no"
    below = [measured(larger=0.8 * card, job=str(n)) for n in range(3)]
    assert on_l4(learning.of(below)).fits == "yes"


def test_phases_around_a_training_are_drawn_to_what_they_took_at_that_backend() -> None:
    plain = on_l4(NOTHING)
    whole = sum(plain.phases[name].middle for name in learning.PARTS["start"])
    seen = [measured(slower=1, larger=1, start=3 * whole, job=str(n)) for n in range(6)]
    found = on_l4(learning.of(seen))
    assert 1.5 < factor(found, plain, "boot") < 3
    assert factor(found, plain, "boot") == pytest.approx(factor(found, plain, "software"))
    assert found.phases["load"] == plain.phases["load"]
    elsewhere = learning.of([replace(one, backend="skypilot:aws") for one in seen])
    assert on_l4(elsewhere).phases["boot"] == plain.phases["boot"]


@pytest.mark.parametrize("times", [25.0, 1 / 25])
def test_what_no_estimate_is_off_by_is_passed_over(times: float) -> None:
    plain = on_l4(NOTHING)
    whole = sum(plain.phases[name].middle for name in learning.PARTS["start"])
    one = measured(slower=times, larger=times, start=times * whole, pull=1e6)
    found = on_l4(learning.of([one]))
    assert (found.pace, found.held) == (learning.NONE, learning.NONE)
    for name, phase in plain.phases.items():
        assert found.phases[name].middle == pytest.approx(phase.middle)


def test_it_is_said_how_many_runs_and_with_which_weight() -> None:
    found = on_l4(learning.of([measured(), measured(OTHER, job="k")]))
    text = words(found.pace, found.held)
    assert text.startswith("drawn to 2 of your own runs, 1 of this recipe: time x 1.")
    assert "weight" in text
    assert "memory x 1." in text
    assert words(learning.NONE, learning.NONE) == ""


def test_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    row = '{"instruction": "say it", "input": "", "output": "a word"}\n'
    (tmp_path / "rows.jsonl").write_text(row * 400)
    config = (
        "base_model: Qwen/Qwen2.5-7B\nadapter: lora\nlora_target_linear: true\n"
        "datasets: [{path: rows.jsonl, type: alpaca}]\nmicro_batch_size: 1\n"
    )
    (tmp_path / "mine.yml").write_text(config)
    one = measured()
    fields = {name: getattr(one, name) for name in Measurement.__dataclass_fields__}
    del fields["at"]
    open_store(tmp_path / "state").save_measurement(**fields)
    argv = ["estimate", "mine.yml", "-b", "jarvis", "-g", "L4"]
    assert command(cli, [*argv, "--explain"]) == 0
    out = capsys.readouterr().out
    assert "L4 x 1: drawn to 1 of your own runs: time x 1." in out
    assert out.count("drawn to 1 of your own runs") == 2, "--explain does not say so"
    assert command(cli, [*argv, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["quotes"][0]["learned"]
    assert told["runs"] == 1
    assert told["time_factor"] > 1
