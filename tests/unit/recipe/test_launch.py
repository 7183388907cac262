"""The launch keys, and which files are launch recipes at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest

from backends.errors import Refused
from launcher import recipe
from launcher.on_finish import OnFinish
from launcher.recipe import Recipe, reading, units
from launcher.recipe.model import KEYS, LaunchRecipe

Load = Callable[..., Recipe]
INLINE = "config: {base_model: m, datasets: [{path: d.jsonl, type: alpaca}]}\n"


def test_everything_a_launch_recipe_can_say(load: Load) -> None:
    said = load(
        INLINE
        + """
description: what it is
set: {learning_rate: 2e-4, trl.beta: 0.1}
hardware:
  gpu: [H100:2, "A100-80GB"]
  cpu: 8
  memory: 64GiB
  disk: 2TiB
  spot: true
  regions: eu-west
  nodes: 2
backend: modal
on_finish: pause
budget: {max_cost: 20 USD, max_price: $2.50, max_duration: 2h30m}
steps: {merge: false, evaluate: true}
env: {A: "1", PORT: 8080}
secrets: [HF_TOKEN, "modal:my-keys"]
image: owner/axolotl@sha256:DIGEST
artifacts: ["output/**"]
include: rewards/*.py
models: {m: "pypi:pkg==1.0#model.gguf"}
""".replace("DIGEST", "a" * 64)
    ).launch
    assert said.hardware.gpus == (("H100", 2), ("A100-80GB", 1))
    assert (said.hardware.cpu, said.hardware.memory, said.hardware.disk) == (8, 64, 2048)
    assert (said.hardware.spot, said.hardware.regions, said.hardware.nodes) == (
        True,
        ("eu-west",),
        2,
    )
    assert said.on_finish is OnFinish.PAUSE
    assert said.budget.max_cost == Decimal(20)
    assert said.budget.max_price == Decimal("2.50")
    assert said.budget.max_duration == timedelta(hours=2, minutes=30)
    assert (said.steps.preprocess, said.steps.train) == (True, True)
    assert (said.steps.merge, said.steps.evaluate) == (False, True)
    assert said.env == {"A": "1", "PORT": "8080"}
    assert said.secrets == ("HF_TOKEN", "modal:my-keys")
    assert said.image == f"owner/axolotl@sha256:{'a' * 64}"
    assert (said.artifacts, said.include) == (("output/**",), ("rewards/*.py",))
    assert said.models == {"m": "pypi:pkg==1.0#model.gguf"}


def test_no_launch_key_is_a_key_of_axolotl() -> None:
    known = json.loads((files("launcher.preflight") / "axolotl_keys.json").read_text("utf-8"))
    names = set(known["keys"]).union(*known["plugins"].values())
    assert KEYS.isdisjoint(names)
    assert "base_model" in names


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_file_with_a_base_model_is_plain_whatever_else_it_holds(key: str) -> None:
    assert not reading.is_launch({"base_model": "m", key: 1})
    assert reading.is_launch({key: 1})


def test_a_file_with_neither_is_a_plain_config(load: Load) -> None:
    found = load("datasets: []\n", sets=["base_model=m"])
    assert found.launch == LaunchRecipe()
    assert found.config == {"datasets": [], "base_model": "m"}


@pytest.mark.parametrize(
    ("text", "line", "says", "hints"),
    [
        ("budgt: {}\n", 2, "no launch key 'budgt'", "did you mean 'budget'?"),
        ("hardware: {gpus: H100}\n", 2, "'gpus' in hardware", "did you mean 'gpu'?"),
        ("hardware:\n  gpu: H100:0\n", 3, "at least 1", ""),
        ("hardware:\n  gpu: 4090:2\n", 3, "put it in quotes", ""),
        ("hardware: {store: here}\n", 2, "'here' is no bucket's address", ""),
        ("hardware: [H100]\n", 2, "hardware must be a mapping", ""),
        ("set: [a]\n", 2, "set must be a mapping", ""),
        ("steps: {train: 1}\n", 2, "steps.train must be true or false", ""),
        ("budget: {max_duration: soon}\n", 2, "2h30m", ""),
        ("budget: {max_duration: 0}\n", 2, "more than nothing", ""),
        ("budget: {max_cost: 20 EUR}\n", 2, "prices are in USD", ""),
        ("budget: {max_cost: -1}\n", 2, "more than nothing", ""),
        ("budget: {max_cost: .nan}\n", 2, "more than nothing", ""),
        ("on_finish: stay\n", 2, "'stay' is none of destroy, pause, keep", ""),
        ("env: {A: yes}\n", 2, "the value of A is not text", "quotes"),
        ("env: {A: 010}\n", 2, "the value of A is not text", "quotes"),
        ("env: {a b: x}\n", 2, "'a b' cannot be the name", ""),
        ("include: [/etc]\n", 2, "'/etc' is not a path relative", ""),
        ("image: owner/axolotl:main\n", 2, "without its digest", ""),
        ("models: {m: pkg}\n", 2, "pypi:PACKAGE==VERSION#FILE", ""),
    ],
)
def test_mistakes_are_named_with_their_line(
    load: Load, text: str, line: int, says: str, hints: str
) -> None:
    with pytest.raises(Refused) as caught:
        load(INLINE + text)
    assert caught.value.message.startswith(f"my recipe.yml:{line}: ")
    assert says in caught.value.message
    assert hints in caught.value.hint


def test_every_mistake_is_told_the_first_first(load: Load) -> None:
    with pytest.raises(Refused) as caught:
        load(INLINE + "nodes: 2\nsteps: {tran: true}\n")
    assert caught.value.message.startswith("my recipe.yml:2: there is no launch key 'nodes'")
    assert "also my recipe.yml:3: there is no launch key 'tran' in steps" in caught.value.hint


@pytest.mark.parametrize(
    "secrets",
    [
        "[HF_TOKEN=hf_abcdefghijklmnop]",
        "{HF_TOKEN: hf_abcdefghijklmnop}",
        "[{HF_TOKEN: hf_abcdefghijklmnop}]",
        "[hf_abcdefghijklmnop]",
        "hf_abcdefghijklmnop",
        "[HF_TOKEN, '']",
    ],
)
def test_a_secret_with_a_value_is_refused_and_not_repeated(load: Load, secrets: str) -> None:
    with pytest.raises(Refused) as caught:
        load(INLINE + f"secrets: {secrets}\n")
    assert "names of environment variables" in caught.value.message
    assert "hf_abc" not in caught.value.message + caught.value.hint


def test_a_secret_under_env_is_refused_and_not_repeated(load: Load) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        with pytest.raises(Refused, match=f"{name} holds a secret") as caught:
            load(INLINE + f"env: {{{name}: hunter2}}\n")
        assert "hunter2" not in caught.value.message + caught.value.hint
    assert load(INLINE + "env: {TOKENIZERS_PARALLELISM: 'false'}\n").launch.env


def test_headings_with_nothing_below_them_say_nothing(load: Load) -> None:
    assert load(INLINE + "hardware:\nset:\nenv:\n").launch.hardware.gpus == ()


def test_config_by_path_url_name_or_inline(load: Load, folder: Path) -> None:
    (folder / "c.yml").write_text("base_model: beside\n")
    assert load("config: c.yml\n").config == {"base_model": "beside"}
    assert load("config: quickstart\n").config_origin == "quickstart.yml (bundled config)"
    assert load("config: {base_model: inline}\n").config == {"base_model": "inline"}
    with pytest.raises(Refused, match=r"my recipe.yml:1: http://x/c.yml would be read over http"):
        load("config: http://x/c.yml\n")
    with pytest.raises(Refused, match=r"my recipe.yml:1: there is no config 'quikstart'") as caught:
        load("config: quikstart\n")
    assert "did you mean 'quickstart'?" in caught.value.hint


def test_launch_keys_without_a_config_are_refused(load: Load) -> None:
    with pytest.raises(Refused, match="the key config is missing"):
        load("hardware: {gpu: H100}\n")


def test_a_config_that_is_a_launch_recipe_itself_is_refused(load: Load, folder: Path) -> None:
    (folder / "c.yml").write_text("config: d.yml\n")
    with pytest.raises(Refused, match="holds launch keys itself"):
        load("config: {config: x.yml}\n")
    with pytest.raises(Refused, match="holds launch keys itself"):
        load("config: c.yml\n")


def test_errors_of_a_config_file_name_that_file(load: Load, folder: Path) -> None:
    (folder / "c.yml").write_text("base_model: m\na: [\n")
    with pytest.raises(Refused, match=r"^c.yml:3:1: "):
        load("config: c.yml\n")


def test_relative_paths_start_where_the_most_is_found(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "r.yml").write_text(
        "base_model: m/n\ndatasets:\n- path: a.jsonl\n- path: b.jsonl\n- path: c.jsonl\n"
    )
    real = folder.resolve()
    assert recipe.load("sub/r.yml", cwd=folder).base_dir == real / "sub"
    (folder / "a.jsonl").touch()
    assert recipe.load("sub/r.yml", cwd=folder).base_dir == real
    (folder / "sub" / "b.jsonl").touch()
    assert recipe.load("sub/r.yml", cwd=folder).base_dir == real / "sub"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1d", 86400), ("1h 30m", 5400), ("45s", 45), (90, 90), ("90", 90), (1.5, 1.5)],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "1h2d", "-5m", True, None, "9" * 60 + "d", float("inf"), 1e300, "²", "400d"]
)
def test_what_is_no_duration_is_a_value_error(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.duration(text)


@pytest.mark.parametrize(
    "text", ["", "USD", "1,5", "ten", True, [1], "1e999999999999999999", "inf"]
)
def test_what_is_no_amount_is_a_value_error(text: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        units.dollars(text)


def test_money_is_exact() -> None:
    assert units.dollars("0.1") + units.dollars(0.2) == Decimal("0.3")
