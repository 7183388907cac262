"""Changes to a recipe that make it fit, or cheaper: each to be pasted, each with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from backends.errors import FtlaunchError
from launcher import recipe as recipes
from launcher.estimate import Setup, Shape
from launcher.quotes import quote, workload
from launcher.quotes.learning import NOTHING, Learned
from launcher.quotes.market import Priced
from launcher.quotes.quote import Quote
from launcher.quotes.workload import Workload
from launcher.recipe import Recipe

RANK = ("lora_r=16", "lora_alpha=32", "lora_target_linear=true")

SHARDED = (
    "fsdp_version=2",
    "fsdp_config.reshard_after_forward=true",
    "fsdp_config.auto_wrap_policy=TRANSFORMER_BASED_WRAP",
    "fsdp_config.state_dict_type=FULL_STATE_DICT",
)

SHORT = 1024
"""Rows that are not halved."""

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


def changes(setup: Setup, *, mixture: bool = False) -> Iterator[Change]:
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
    if mixture and setup.quant.startswith("nf4") and not setup.experts_quantised:
        yield Change(
            ("quantize_moe_experts=true",),
            "the experts in 4 bits, too",
            "slower steps, and slightly less exact",
        )
    if setup.method == "full":
        yield Change(
            ("optimizer=adamw_8bit",),
            "the optimizer's state in 8 bits",
            "about the same result",
        )
        yield Change(
            ("adapter=lora", *RANK),
            "an adapter instead of all weights",
            "another, smaller result",
        )
        yield Change(
            ("adapter=qlora", "load_in_4bit=true", *RANK),
            "an adapter on the base model in 4 bits",
            "another, smaller result",
        )
    if setup.parallelism in ("none", "ddp") and setup.quant == "none":
        yield Change(
            SHARDED, "the model spread over the machine's GPUs (FSDP2)", "needs several GPUs"
        )
    if setup.seq_len > SHORT:
        yield Change(
            (f"sequence_len={setup.seq_len // 2}",),
            "rows of half the length",
            "longer ones are dropped or cut",
        )


def advice(
    recipe: Recipe,
    work: Workload,
    offers: Sequence[Priced],
    best: Quote | None,
    *,
    shape: Shape | None = None,
    tokens: int | None = None,
    hub: bool = True,
    learned: Learned = NOTHING,
) -> list[Advice]:
    """What makes the recipe fit where it does not, or cheaper than `best`.

    offers  may leave out what differs in nothing but place and price from a cheaper one
    best    the cheapest offer that it fits as it is; None: there is none
    The others are what `work` was made with.
    """

    def tried(change: Change) -> Quote | None:
        try:
            changed = recipes.changed(recipe, change.sets)
            other = workload.of(changed, shape=shape, tokens=tokens)
        except FtlaunchError:
            return None
        quotes = quote.ordered(quote.all_of(other, offers, hub=hub, learned=learned), "cost")
        fits = bool(quotes) and quotes[0].fits in {"yes", "tight"}
        return quotes[0] if fits and _is_better(quotes[0], best) else None

    alone = list(changes(work.setup, mixture=work.shape.mixture))
    found = [Advice(one, got) for one in alone if (got := tried(one)) is not None]
    if found or best is not None:
        return found
    # None is enough by itself: the first so many of them together are, and some of those needless.
    for number in range(2, len(alone) + 1):
        if tried(_together(alone[:number])) is not None:
            change = _together(_needed(alone[:number], lambda some: bool(tried(_together(some)))))
            got = tried(change)
            return [] if got is None else [Advice(change, got)]
    return []


def _needed(several: list[Change], suffices: Callable[[list[Change]], bool]) -> list[Change]:
    """Those without which it does not do; the most drastic are left out first."""
    kept = list(several)
    for one in reversed(several[:-1]):
        fewer = [each for each in kept if each is not one]
        if suffices(fewer):
            kept = fewer
    return kept


def _together(several: Sequence[Change]) -> Change:
    """One change; where two set a key, the later one does."""
    settings = dict(each.split("=", 1) for one in several for each in one.sets)
    return Change(
        tuple(f"{key}={value}" for key, value in settings.items()),
        ", ".join(one.what for one in several),
        "; ".join(dict.fromkeys(one.price for one in several)),
    )


def _is_better(one: Quote, best: Quote | None) -> bool:
    if best is None:
        return True
    return one.likely < WORTH * best.likely
