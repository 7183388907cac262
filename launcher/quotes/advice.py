"""Changes to a recipe that make it fit, or cheaper: each to be pasted, each with what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.errors import FtlaunchError
from launcher import recipe as recipes
from launcher.estimate import Setup, Shape
from launcher.quotes import quote, workload
from launcher.quotes.learning import NOTHING, Learned
from launcher.quotes.market import Priced
from launcher.quotes.quote import Quote
from launcher.quotes.workload import Workload

WORTH = 0.9
"""Of the dollars: what saves less than a tenth is not told."""


@dataclass(frozen=True)
class Change:
    """Settings, what they do, and what they cost in time or quality."""

    sets: tuple[str, ...]
    what: str
    price: str


@dataclass(frozen=True)
class Advice:
    """A change and the cheapest offer that it fits then."""

    change: Change
    best: Quote


def changes(setup: Setup) -> Iterator[Change]:
    """What could be done to a recipe that is trained like this, the gentlest first."""
    if setup.micro_batch > 1:
        accumulated = setup.micro_batch * setup.grad_accum
        yield Change(
            ("micro_batch_size=1", f"gradient_accumulation_steps={accumulated}"),
            "one row at a time, the same batch",
            "more and smaller steps: slower",
        )
    if setup.checkpointing == "none":
        yield Change(
            ("gradient_checkpointing=true",),
            "gradient checkpointing on",
            "the same result, each step about a third slower",
        )
    if not setup.packing and setup.rows_per_sample == 1:
        yield Change(
            ("sample_packing=true",),
            "short rows packed together",
            "the same data in fewer and other batches",
        )
    if setup.method == "lora":
        yield Change(
            ("adapter=qlora", "load_in_4bit=true"),
            "the base model in 4 bits",
            "slower steps, and slightly less exact",
        )
    if setup.method == "full":
        yield Change(
            ("optimizer=adamw_8bit",),
            "the optimizer's state in 8 bits",
            "about the same result",
        )
        yield Change(
            ("adapter=lora", "lora_r=16", "lora_alpha=32", "lora_target_linear=true"),
            "an adapter instead of all weights",
            "another, smaller result",
        )


def advice(
    source: str,
    work: Workload,
    offers: Sequence[Priced],
    best: Quote | None,
    *,
    sets: tuple[str, ...] = (),
    data: Path | None = None,
    shape: Shape | None = None,
    tokens: int | None = None,
    hub: bool = True,
    learned: Learned = NOTHING,
) -> list[Advice]:
    """What makes the recipe fit where it does not, or cheaper than `best`.

    best  the cheapest offer that it fits as it is; None: there is none
    The others are what `work` was made with.
    """

    def tried(change: Change) -> Quote | None:
        try:
            changed = recipes.load(source, sets=(*sets, *change.sets), data=data, cwd=Path.cwd())
            other = workload.of(changed, shape=shape, tokens=tokens)
        except FtlaunchError:
            return None
        quotes = quote.ordered(quote.all_of(other, offers, hub=hub, learned=learned), "cost")
        fits = bool(quotes) and quotes[0].fits in {"yes", "tight"}
        return quotes[0] if fits and _is_better(quotes[0], best) else None

    alone = list(changes(work.setup))
    found = [Advice(one, got) for one in alone if (got := tried(one)) is not None]
    if found or best is not None:
        return found
    # None is enough by itself: the first so many of them together are.
    for number in range(2, len(alone) + 1):
        change = _together(alone[:number])
        if (got := tried(change)) is not None:
            return [Advice(change, got)]
    return []


def _together(several: Sequence[Change]) -> Change:
    return Change(
        tuple(each for one in several for each in one.sets),
        ", ".join(one.what for one in several),
        "; ".join(dict.fromkeys(one.price for one in several)),
    )


def _is_better(one: Quote, best: Quote | None) -> bool:
    if best is None:
        return True
    return quote.dollars(one) < WORTH * quote.dollars(best)
