"""What can be had behind SkyPilot: what its optimizer answers, or what its price lists say."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import cache
from json.encoder import encode_basestring_ascii as _text
from operator import attrgetter
from typing import Any

from backends.errors import Refused, Unreachable, Unsupported
from backends.offer import FREE, Money, Need, Offer
from backends.skypilot import catalog
from backends.skypilot.addresses import HOW, address
from backends.skypilot.catalog import Instance, Listing
from backends.skypilot.errors import translated
from backends.skypilot.leases import NAME
from backends.skypilot.records import SLURM
from backends.skypilot.server import Considered, Server

GPU_MEMORY_GIB = {
    "T4": 16, "V100": 16, "A10": 24, "A10G": 24, "L4": 24, "A6000": 48, "L40": 48, "L40S": 48,
    "A100": 40, "A100-80GB": 80, "H100": 80, "GH200": 96, "H200": 141, "B200": 180, "B300": 288,
}  # fmt: skip
"""As the makers of the GPUs state it."""


IDLE_SHARED, IDLE_ALONE = 10, 180
"""Minutes without a job or a visitor until a cluster takes itself down: where results stay on a
shared disk, and where they go with it."""


RECOVERS = (
    "SkyPilot has let go of its machine; taken away before, it goes on from its newest checkpoint "
    "on another"
)
"""Of a managed job: see `Offer.alone`."""


def idle_minutes(cloud: str) -> int:
    """How long a cluster of that cloud waits for somebody when its jobs are over."""
    return IDLE_SHARED if cloud == SLURM else IDLE_ALONE


def alone(cloud: str) -> str:
    """See `Offer.alone`."""
    if cloud == SLURM:
        return (
            f"its cluster takes itself down after {IDLE_SHARED} minutes; results stay on its disk"
        )
    hours = IDLE_ALONE // 60
    return f"its cluster takes itself down after {hours} hours, with results that nobody fetched"


class Offers:
    """Offers of one backend object. `guest` is a cluster of the user's own that is up."""

    def __init__(
        self, server: Server, *, infra: str, guest: str, clock: Callable[[], datetime]
    ) -> None:
        self._server = server
        self._infra = infra
        self._guest = guest
        self._clock = clock

    # ── asked of the server ───────────────────────────────────────────────────────────────────

    def live(self, need: Need) -> list[Offer]:
        """What SkyPilot's optimizer considers, of the first kind of GPU that can be had.

        The kinds that come after it stay in the offer, and a launch falls back on them in that
        order; but not under a limit of dollars.
        Raises CredentialsMissing, Unreachable.
        """
        self._server.require_answer()
        if self._guest:
            return [] if need.recover else self._as_guest(need)
        if need.recover:
            return self._recovering(need)
        if not need.gpus and not need.cpu_only and (found := self._any_gpu(need)):
            return found
        for number, wanted in enumerate(ranked := self._wanted(need)):
            task = self._task([wanted], need)
            if rows := self._server.considered(task):
                return [self._offer(row, ranked[number:], need) for row in rows]
        return []

    def _recovering(self, need: Need) -> list[Offer]:
        """Managed jobs, which SkyPilot takes up again by itself.

        What they go on from must outlive their machines, and be read from here: a Slurm cluster
        has a disk for that, and elsewhere the user names a bucket. Raises Refused where there is
        neither, BadInput for what is no bucket.
        """
        if need.store:
            address(need.store)
        elif self._infra and not self._infra.lower().startswith("slurm"):
            raise Refused(
                f"a job that recovers keeps its checkpoints where they outlive its machine, "
                f"and on {self._infra} that is a bucket, which nobody has named",
                hint=HOW,
            )
        if need.nodes > 1:
            raise Refused(
                f"a job that recovers runs on one node, and this one asks for {need.nodes}",
                hint="leave --recover out, or ask for one node with more GPUs",
            )
        found = self.live(replace(need, recover=False))
        here = [one for one in found if need.store or one.data["cloud"] == SLURM]
        return [_recovers(one, need.store) for one in here]

    def _any_gpu(self, need: Need) -> list[Offer]:
        """The cheapest GPU of each cloud, where nobody asked for a kind: a training wants one."""
        ranked = self._wanted(replace(need, gpus=tuple((kind, 1) for kind in GPU_MEMORY_GIB)))
        rows = self._server.considered(self._task(ranked, need))
        return [
            self._offer(row, [{**ranked[0], "accelerators": f"{row.gpu}:{row.count}"}], need)
            for row in rows
            if row.gpu is not None
        ]

    def _as_guest(self, need: Need) -> list[Offer]:
        """A cluster that bills in any case: a job on it costs nothing more."""
        rows = self._server.clusters(self._guest)
        if not rows or rows[0].status != "UP":
            raise Unreachable(
                f"SkyPilot has no cluster {self._guest!r} that is up",
                hint="look with: sky status",
            )
        if rows[0].nodes < need.nodes:
            raise too_small(self._guest, rows[0].nodes, need.nodes)
        kind, count = rows[0].gpu, rows[0].count
        asked = {(catalog.plain(name), number) for name, number in need.gpus}
        fits = not asked or (kind is not None and (catalog.plain(kind), count) in asked)
        return [self._guest_offer(kind, count, need.nodes)] if fits else []

    def _guest_offer(self, kind: str | None, count: int, nodes: int) -> Offer:
        source = "a cluster of your own, which bills in any case"
        return Offer(NAME, kind, count, FREE, source=source, read_at=self._clock(), nodes=nodes)

    def _wanted(self, need: Need) -> list[dict[str, Any]]:
        """What is asked of the optimizer, one after the other."""
        base: dict[str, Any] = {}
        if need.cpus is not None:
            base["cpus"] = f"{need.cpus}+"
        if need.memory_gib is not None:
            base["memory"] = f"{need.memory_gib}+"
        if need.disk_gib is not None:
            base["disk_size"] = need.disk_gib
        if need.spot:
            base["use_spot"] = True
        places = [f"{self._infra or '*'}/{region}" for region in need.regions] or [self._infra]
        kinds: Sequence[str | None] = [f"{kind}:{count}" for kind, count in need.gpus] or [None]
        return [
            {
                **base,
                **({"infra": place} if place else {}),
                **({"accelerators": kind} if kind else {}),
            }
            for kind in kinds
            for place in places
        ]

    def _task(self, any_of: Sequence[dict[str, Any]], need: Need) -> Any:
        sky = self._server.sdk
        with translated():
            task = sky.Task(name="ftlaunch-offer", run="true", num_nodes=need.nodes)
            task.set_resources({sky.Resources(**wanted) for wanted in any_of})
        return task

    def _offer(self, row: Considered, ranked: list[dict[str, Any]], need: Need) -> Offer:
        """The row itself comes first, where it was considered; then what was ranked after it."""
        where = "/".join(part for part in (row.cloud.lower(), row.region) if part)
        first = {**ranked[0], "infra": where, **_no_dearer(row, need)}
        # What comes after it has a price that nobody has looked at.
        after = [] if need.capped else ranked[1:]
        memory = None if row.gpu is None else GPU_MEMORY_GIB.get(row.gpu)
        return Offer(
            backend=NAME,
            gpu=row.gpu,
            count=row.count,
            price=Money(row.cost),
            region=where,
            spot=need.spot,
            memory_gib=row.memory_gib,
            gpu_memory_gib=None if memory is None else float(memory),
            cpus=row.cpus,
            disk_gib=need.disk_gib,
            source="SkyPilot's optimizer, live",
            read_at=self._clock(),
            alone=alone(row.cloud),
            instead=_instead(after),
            nodes=need.nodes,
            data={"resources": json.dumps([first, *after]), "cloud": row.cloud},
        )

    # ── read from its lists ───────────────────────────────────────────────────────────────────

    def dated(self, need: Need) -> list[Offer]:
        """What its price lists have, cheapest first."""
        if self._guest:
            return [] if need.gpus else [self._guest_offer(None, 0, need.nodes)]
        narrowed = self._infra.partition("/")[0].lower()
        if need.store:
            address(need.store)
        if need.recover and narrowed != "slurm" and not need.store:
            return []
        if narrowed in {"slurm", "kubernetes", "k8s", "ssh"}:
            one = replace(_unpriced(self._infra, need), read_at=self._clock())
            return [_recovers(one, need.store) if need.recover else one]
        fits = _fitting(need)
        found: list[Offer] = []
        for listing in catalog.listings(self._server.home):
            if not narrowed or listing.cloud == narrowed:
                rows = _cheapest(filter(fits, listing.rows), need)
                found += map(_dating(listing, need), rows)
        if need.recover:
            found = [_recovers(one, need.store) for one in found]
        return sorted(found, key=lambda offer: offer.price.amount)


def _recovers(offer: Offer, store: str) -> Offer:
    """The same as a managed job, which SkyPilot takes up again by itself."""
    data = {**offer.data, "recovers": "1", **({"store": store} if store else {})}
    return offer.but(ends=True, alone=RECOVERS, keeps=store, data=data)


def _no_dearer(row: Considered, need: Need) -> dict[str, float]:
    """What keeps SkyPilot to the row's price: it would go on to a dearer type of that place.

    Of one node, a cent more than its table says, which rounds. Hardware of the user's own has one
    price for a GPU, and SkyPilot looks at no limit there.
    """
    if row.cloud in _OWN or not row.cost:
        return {}
    return {"max_hourly_cost": float((row.cost + _CENT) / need.nodes)}


_OWN = frozenset({SLURM, "Kubernetes", "SSH"})
_CENT = Decimal("0.01")


def too_small(cluster: str, nodes: int, asked: int) -> Unsupported:
    """What is said of a cluster of the user's own with fewer nodes than a job asks for."""
    return Unsupported(
        f"the cluster {cluster!r} has {nodes} node{'s' * (nodes != 1)}, "
        f"and this job asks for {asked}",
        hint="ask for no more with hardware.nodes, or let SkyPilot make a cluster: -b skypilot",
    )


def _unpriced(infra: str, need: Need) -> Offer:
    """Hardware of the user's own, which SkyPilot has no price list of: its configuration may."""
    kind, count = next(iter(need.gpus), (None, 0))
    wanted = {"infra": infra, **({"accelerators": f"{kind}:{count}"} if kind else {})}
    cloud = SLURM if infra.lower().startswith("slurm") else "Kubernetes"
    memory = None if kind is None else GPU_MEMORY_GIB.get(kind)
    return Offer(
        NAME,
        kind,
        count,
        FREE,
        region=infra,
        gpu_memory_gib=None if memory is None else float(memory),
        source=f"no price is known of {infra} without its SkyPilot server",
        nodes=need.nodes,
        data={"resources": json.dumps([wanted]), "cloud": cloud},
    )


def _cheapest(rows: Iterable[Instance], need: Need) -> list[Instance]:
    """One row an instance type: where it is cheapest.

    Where kinds of GPUs are compared: of each kind and number the cheapest row of each region.
    """
    key = _KIND if need.every_count else _NAME
    price = _SPOT if need.spot else _PRICE
    best: dict[Hashable, Instance] = {}
    # The last of a key stays.
    for row in sorted(rows, key=price, reverse=True):
        best[key(row)] = row
    return list(best.values())


_KIND = attrgetter("gpu", "gpus", "region")
_NAME = attrgetter("name")
_PRICE = attrgetter("price")
_SPOT = attrgetter("spot")


def _fitting(need: Need) -> Callable[[Instance], bool]:
    """Whether a row is what is needed; names are compared as `catalog.plain` has them."""
    wanted = {(catalog.plain(kind), count) for kind, count in need.gpus}
    plain = cache(catalog.plain)

    def fits(row: Instance) -> bool:
        if (row.spot if need.spot else row.price) is None:
            return False
        if need.cpus and (row.cpus or 0) < need.cpus:
            return False
        if need.memory_gib and (row.memory_gib or 0) < need.memory_gib:
            return False
        if need.regions and row.region not in need.regions:
            return False
        if need.cpu_only:
            return row.gpu is None
        if wanted:
            return row.gpu is not None and (plain(row.gpu), row.gpus) in wanted
        return row.gpu is not None

    return fits


def _dating(listing: Listing, need: Need) -> Callable[[Instance], Offer]:
    """Makes offers of a cloud's rows; what they have in common is made once."""
    common = Offer(
        backend=NAME,
        gpu=None,
        count=0,
        price=FREE,
        spot=need.spot,
        disk_gib=need.disk_gib,
        source=listing.source,
        read_at=listing.read_at,
        alone=alone(listing.cloud),
        nodes=need.nodes,
    )

    def dated(row: Instance) -> Offer:
        memory = None if row.gpu is None else GPU_MEMORY_GIB.get(row.gpu)
        price = Money(Decimal(str(row.spot if need.spot else row.price)))
        return common.but(
            gpu=row.gpu,
            count=row.gpus,
            price=price if need.nodes == 1 else price * need.nodes,
            region=f"{row.cloud}/{row.region}" if row.region else row.cloud,
            memory_gib=row.memory_gib,
            gpu_memory_gib=None if memory is None else float(memory),
            cpus=None if row.cpus is None else int(row.cpus),
            data={"resources": f"[{_resources(row, need)}]", "cloud": row.cloud},
        )

    return dated


def _resources(row: Instance, need: Need) -> str:
    """As JSON, put together by hand: there are tens of thousands of rows."""
    wanted = f'"infra": {_text(row.cloud)}, "instance_type": {_text(row.name)}'
    if row.gpu is not None:
        wanted += f', "accelerators": {_text(f"{row.gpu}:{row.gpus}")}'
    if need.spot:
        wanted += ', "use_spot": true'
    return f"{{{wanted}}}"


def _instead(ranked: Sequence[Mapping[str, Any]]) -> str:
    """What SkyPilot turns to, in this order, where the first has no room."""
    told = []
    for wanted in ranked:
        where = f" in {wanted['infra']}" if wanted.get("infra") else ""
        told.append(f"{wanted.get('accelerators', 'a machine')}{where}")
    kinds = ", then ".join(dict.fromkeys(told))
    return f"{kinds}, at a price of its own" if kinds else ""
