"""`-b auto`: which offers are tried, in which order, and why others are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from backends import registry
from backends.errors import (
    BadInput,
    Capped,
    CredentialsMissing,
    FtlaunchError,
    NoCapacity,
    Refused,
    Unreachable,
)
from backends.offer import Money, Need, Offer
from backends.protocol import Backend
from launcher import recipe as recipes
from launcher.cli import order_view
from launcher.planning import prepare
from launcher.quotes import automatic
from launcher.quotes.automatic import Order, order
from launcher.quotes.quote import Caps
from launcher.recipe import Recipe
from launcher.request import Request
from launcher.store import open_store

CONFIG = {
    "base_model": "Qwen/Qwen2.5-7B",
    "adapter": "lora",
    "lora_r": 16,
    "lora_alpha": 32,
    "learning_rate": 0.0002,
    "num_epochs": 1,
    "output_dir": "./out",
    "lora_target_linear": True,
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "sequence_len": 2048,
    "micro_batch_size": 1,
    "gradient_checkpointing": True,
    "bf16": True,
}


class Shop:
    """A provider: what it has now, and what its dated list says."""

    def __init__(self, name: str, free: Sequence[Offer] | FtlaunchError) -> None:
        self.name = name
        self.free = free

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        if isinstance(self.free, FtlaunchError):
            if live:
                raise self.free
            return [of(self.name, "L4", "0.40")]
        wanted = [kind for kind, _ in need.gpus]
        if need.cpu_only:
            return [one for one in self.free if one.gpu is None]
        return [one for one in self.free if not wanted or one.gpu in wanted]


def of(backend: str, gpu: str | None, dollars: str, count: int = 1, **more: Any) -> Offer:
    price = Money(Decimal(dollars), more.pop("currency", "USD"))
    return Offer(backend, gpu, 0 if gpu is None else count, price, **more)


Opened = Callable[[Mapping[str, Sequence[Offer] | FtlaunchError]], None]


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """What providers there are."""

    def opened(stock: Mapping[str, Sequence[Offer] | FtlaunchError]) -> None:
        def load(name: str, *, state_dir: Path) -> Backend:
            return cast("Backend", Shop(name, stock[name]))

        monkeypatch.setattr(registry, "names", lambda: sorted(stock))
        monkeypatch.setattr(registry, "load", load)

    return opened


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    row = '{"instruction": "say it", "input": "", "output": "' + "word " * 300 + '"}\n'
    (tmp_path / "rows.jsonl").write_text(row * 400)
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(CONFIG))
    return recipes.load(str(tmp_path / "mine.yml"), cwd=tmp_path)


def asked(recipe: Recipe, need: Need | None = None, *, dry: bool = False, **caps: Any) -> Order:
    return order(recipe, need or Need(), Caps(**caps), dry=dry)


def places(found: Order) -> list[tuple[str, str | None]]:
    return [(one.spec, one.quote.offer.gpu) for one in found.candidates]


def test_the_cheapest_whole_job_comes_first_whoever_has_it(shops: Opened, recipe: Recipe) -> None:
    shops(
        {
            "jarvis": [of("jarvis", "L4", "0.44"), of("jarvis", "A100-80GB", "1.49")],
            "modal": [of("modal", "L4", "1.69"), of("modal", "H100", "4.80")],
        }
    )
    found = asked(recipe)
    costs = [one.quote.cost for one in found.candidates]
    assert len(costs) == 4
    likely = [cost[1].amount for cost in costs if cost is not None]
    assert likely == sorted(likely)
    assert set(places(found)) >= {("jarvis", "L4"), ("modal", "H100")}


def test_ranked_kinds_come_in_their_order_over_all_backends(shops: Opened, recipe: Recipe) -> None:
    shops(
        {
            "jarvis": [of("jarvis", "L4", "0.10"), of("jarvis", "H100", "2.69")],
            "modal": [of("modal", "L4", "0.20"), of("modal", "H100", "3.95")],
        }
    )
    found = asked(recipe, Need(gpus=(("H100", 1), ("L4", 1))))
    assert [gpu for _, gpu in places(found)] == ["H100", "H100", "L4", "L4"]


def test_who_has_no_key_is_left_out_and_a_dry_run_reads_its_list(
    shops: Opened, recipe: Recipe
) -> None:
    shops(
        {
            "jarvis": CredentialsMissing("there is no key for Jarvis Labs"),
            "modal": [of("modal", "L4", "1.69")],
            "skypilot": Unreachable("no server answers"),
        }
    )
    found = asked(recipe)
    assert places(found) == [("modal", "L4")]
    assert "jarvis: there is no key for Jarvis Labs" in found.left_out
    assert "skypilot: no server answers" in found.left_out
    dry = asked(recipe, dry=True)
    assert set(places(dry)) == {("jarvis", "L4"), ("modal", "L4"), ("skypilot", "L4")}
    doubts = {one.spec: one.doubt for one in dry.candidates}
    assert doubts == {
        "jarvis": "not asked today: there is no key for Jarvis Labs",
        "modal": "",
        "skypilot": "not asked today: no server answers",
    }


def test_what_does_not_fit_is_not_tried_and_a_tight_fit_comes_last(
    shops: Opened, recipe: Recipe
) -> None:
    shops(
        {
            "jarvis": [of("jarvis", "T4", "0.01"), of("jarvis", "A100-80GB", "9.00")],
            "local": [of("local", None, "0")],
            "odd": [of("odd", "Riva TNT2", "0.01")],
        }
    )
    found = asked(recipe)
    assert places(found) == [("jarvis", "A100-80GB")]
    assert set(found.left_out) == {
        "jarvis: it does not fit T4",
        "local: there is no GPU",
        "odd: nothing is known of Riva TNT2; ask for one with -g",
    }
    assert places(asked(recipe, Need(gpus=(("Riva TNT2", 1),)))) == [("odd", "Riva TNT2")]


@pytest.mark.parametrize(
    ("caps", "why"),
    [
        ({"price": Decimal(2)}, "modal: above $2 an hour: H100"),
        ({"cost": Decimal("0.10")}, "modal: above $0.10 in all: H100"),
    ],
)
def test_what_is_above_a_limit_is_left_out(
    shops: Opened, recipe: Recipe, caps: dict[str, Any], why: str
) -> None:
    shops({"jarvis": [of("jarvis", "L4", "0.44")], "modal": [of("modal", "H100", "45.00")]})
    cheap = {**caps, "cost": Decimal(3)} if "cost" in caps else caps
    found = asked(recipe, **cheap)
    assert places(found) == [("jarvis", "L4")]
    assert why.replace("0.10", "3") in found.left_out


def test_rupees_cannot_be_held_to_dollars(shops: Opened, recipe: Recipe) -> None:
    shops(
        {
            "jarvis": [of("jarvis", "L4", "1", currency="INR")],
            "modal": [of("modal", "L4", "1.69")],
        }
    )
    found = asked(recipe, price=Decimal(5))
    assert places(found) == [("modal", "L4")]
    assert "jarvis: above limits in dollars, as it is paid in INR: L4" in found.left_out


@pytest.mark.parametrize(
    ("stock", "caps", "says"),
    [
        ({"a": [of("a", "L4", "1")]}, {"price": Decimal("0.1")}, (Capped, "nearest is L4 at a")),
        (
            {"a": [of("a", "L4", "1")]},
            {"duration": timedelta(seconds=9)},
            (Capped, "nearest is L4"),
        ),
        ({"a": [of("a", "T4", "1")]}, {}, (Refused, "it fits nowhere: on T4 at a it lacks")),
        ({"a": CredentialsMissing("no key")}, {}, (CredentialsMissing, "a: no key")),
        ({"a": []}, {}, (NoCapacity, "a has no GPU now")),
    ],
)
def test_where_nothing_is_left_one_sentence_says_why(
    shops: Opened,
    recipe: Recipe,
    stock: dict[str, Any],
    caps: dict[str, Any],
    says: tuple[type[FtlaunchError], str],
) -> None:
    shops(stock)
    with pytest.raises(says[0], match=says[1]):
        asked(recipe, **caps)


def test_of_one_gpu_in_several_numbers_the_cheapest_is_tried_and_every_backend_is_there(
    shops: Opened, recipe: Recipe
) -> None:
    many = [of("jarvis", "L4", "0.44", region=f"r{n}") for n in range(automatic.MOST + 4)]
    more = [of("jarvis", "L4", str(n), n, region="r0") for n in range(2, 5)]
    shops({"jarvis": [*many, *more], "modal": [of("modal", "H100", "90")]})
    found = asked(recipe)
    assert len(found.candidates) == automatic.MOST + 1
    assert places(found)[-1] == ("modal", "H100")
    assert {one.quote.offer.count for one in found.candidates} == {1}


def planned(recipe_file: Path, tmp_path: Path, **more: Any) -> Any:
    request = Request(str(recipe_file), output=tmp_path / "out", **more)
    return prepare(request, open_store(tmp_path / "state"))


def test_a_plan_names_the_first_and_keeps_the_rest(
    shops: Opened, recipe: Recipe, tmp_path: Path
) -> None:
    shops({"jarvis": [of("jarvis", "L4", "0.44")], "modal": [of("modal", "L4", "1.69")]})
    made = planned(tmp_path / "mine.yml", tmp_path, backend="auto", max_wait=timedelta(minutes=3))
    both = [made.backend_spec, *(one.backend for one in made.run.elsewhere)]
    assert sorted(both) == ["jarvis", "modal"]
    assert made.run.max_wait == timedelta(minutes=3)
    assert made.run.target.gpus == 1
    # What they are likely to come to goes with the run, for what is left of its limits then.
    ((other, likely),) = zip(made.run.elsewhere, made.order.candidates[1:], strict=True)
    assert other.likely_cost == likely.quote.cost[1].amount > 0
    assert other.likely_time == timedelta(hours=likely.quote.hours.middle) > timedelta()


@pytest.mark.parametrize("limit", ["max_price", "max_cost"])
def test_a_backend_is_told_that_there_is_a_limit_of_dollars(
    shops: Opened, recipe: Recipe, tmp_path: Path, limit: str
) -> None:
    shops({"jarvis": [of("jarvis", "L4", "0.44")], "modal": [of("modal", "L4", "1.69")]})
    free = planned(tmp_path / "mine.yml", tmp_path, backend="auto")
    bound = planned(tmp_path / "mine.yml", tmp_path, backend="auto", **{limit: Decimal(90)})
    assert (free.run.need.capped, bound.run.need.capped) == (False, True)


def test_secrets_that_a_provider_keeps_bind_the_run_to_it(
    shops: Opened, recipe: Recipe, tmp_path: Path
) -> None:
    shops({"jarvis": [of("jarvis", "L4", "0.44")], "modal": [of("modal", "L4", "1.69")]})
    made = planned(tmp_path / "mine.yml", tmp_path, backend="auto", secrets=("modal:mine",))
    assert (made.backend_spec, made.run.elsewhere) == ("modal", ())
    assert "only modal keeps the secrets that are asked for" in made.run.left_out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"backend": "auto", "only": "preprocess"}, "chooses where to train"),
        ({"backend": "local", "max_wait": timedelta(1)}, "there is only one"),
        ({"backend": "auto", "max_wait": timedelta(seconds=2)}, "may take that long to start"),
    ],
)
def test_what_auto_is_not_for(
    recipe: Recipe, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        planned(tmp_path / "mine.yml", tmp_path, **more)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (("0.44", "1.69"), "$0.44, or elsewhere up to $1.69,"),
        (("0.44",), "$0.44"),
        (("0.44", "0.44"), "$0.44"),
    ],
)
def test_the_question_names_the_dearest_that_may_come(
    shops: Opened, recipe: Recipe, tmp_path: Path, prices: tuple[str, ...], words: str
) -> None:
    names = ("jarvis", "modal")
    shops({name: [of(name, "L4", price)] for name, price in zip(names, prices, strict=False)})
    made = planned(tmp_path / "mine.yml", tmp_path, backend="auto")
    assert order_view.may_bill(made)
    assert order_view.price_words(made) == words
