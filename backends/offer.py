"""What a job needs, and what a provider asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Money:
    """An exact amount in one currency; amounts of different currencies do not mix."""

    amount: Decimal
    currency: str = "USD"

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(self.amount * factor, self.currency)

    def __str__(self) -> str:
        sign = "$" if self.currency == "USD" else f"{self.currency} "
        if 0 < self.amount < _CENT / 2:
            return f"under {sign}{_CENT}"
        return f"{sign}{self.amount.quantize(_CENT, ROUND_HALF_UP)}"


FREE = Money(Decimal(0))


@dataclass(frozen=True)
class Need:
    """The hardware a job asks for. `gpus` are ranked: the first that can be had is taken.

    Each entry of `gpus` is a kind and a count; an empty tuple means any, or none at all. All but
    `nodes` is of one node.
    `cpu_only` asks for a machine without one, and then `gpus` is empty.
    `recover` asks for a place where a job goes on by itself when its machine is taken away.
    `store` is the address of a bucket where such a job is kept; empty: where the backend keeps it.
    `every_count` asks, where no kind is named, for machines with any number of GPUs, not only one;
    it is for comparing kinds, so a dearer machine with the same GPUs in the same place may lack.
    `capped` says that a limit of dollars holds: nothing dearer than an offer may be given in its
    place.
    `plain_memory_gib` is what the job's work without a GPU takes, for `Offer.plain`.
    """

    gpus: tuple[tuple[str, int], ...] = ()
    cpus: int | None = None
    memory_gib: int | None = None
    disk_gib: int | None = None
    spot: bool = False
    regions: tuple[str, ...] = ()
    nodes: int = 1
    cpu_only: bool = False
    recover: bool = False
    store: str = ""
    every_count: bool = False
    capped: bool = False
    plain_memory_gib: int | None = None


@dataclass(frozen=True)
class Offer:
    """One thing that can be rented, priced and dated.

    nodes      how many machines it is, each with `count` GPUs and so many CPUs and GiB
    price      for the whole offer, all nodes of it, and one hour
    source     where the price was read; `read_at` says when
    usd        the price in dollars by the provider's own list, where the account pays in another
               currency and both are known
    disk_gib   what is asked for; a provider may have a least
    here       it is this very machine: what is made on its disk can be used in place
    ends       it bills while a job runs in it, and no longer, whether anybody looks or not; and
               not while files are sent
    plain      the same without a GPU, where each job is rented for by itself: for jobs that need
               none. None: such a job runs on what the others run on
    alone      what becomes of it when its job is over and nobody looks, in a phrase; empty: it
               goes on billing, unless the job is to let go of it (`Job.self_release`)
    keeps      where checkpoints and results are kept, in a phrase, if somewhere that the user named
    instead    what the provider may give in its place, in a phrase; the price holds for that, too
    data       the backend's own note of what to ask for
    """

    backend: str
    gpu: str | None
    count: int
    price: Money
    region: str = ""
    spot: bool = False
    memory_gib: float | None = None
    gpu_memory_gib: float | None = None
    cpus: int | None = None
    disk_gib: int | None = None
    source: str = ""
    read_at: datetime | None = None
    here: bool = False
    ends: bool = False
    plain: Offer | None = None
    alone: str = ""
    keeps: str = ""
    instead: str = ""
    nodes: int = 1
    usd: Money | None = None
    data: Mapping[str, str] = field(default_factory=dict)

    def of(self, nodes: int) -> Offer:
        """As many machines of the same kind."""
        price = Money(self.price.amount * nodes / self.nodes, self.price.currency)
        usd = None if self.usd is None else Money(self.usd.amount * nodes / self.nodes)
        return replace(self, nodes=nodes, price=price, usd=usd)

    def dollars(self, money: Money) -> Decimal | None:
        """An amount in this offer's currency in dollars; None where nobody knows the rate."""
        if money.currency == "USD":
            return money.amount
        if self.usd is None or money.currency != self.price.currency or not self.price.amount:
            return None
        return money.amount * self.usd.amount / self.price.amount

    def but(self, **changes: object) -> Offer:
        """The same with other fields; for lists of tens of thousands, five times as fast as a call.

        Nothing is checked: neither is it by the constructor.
        """
        made = object.__new__(Offer)
        made.__dict__.update(self.__dict__, **changes)
        return made

    def cost_of(self, duration: timedelta) -> Money:
        """The price of holding this for `duration`, unrounded."""
        return self.price * (Decimal(str(duration.total_seconds())) / 3600)
