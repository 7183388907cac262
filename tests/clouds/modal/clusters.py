"""Who works on a call's attempt: one container, or a cluster of them that come and go together.

What is known of clusters is Modal's own guide and what its SDK asks and sends at the container's
side (modal/_cluster.py): every container gets the input, only the output of rank 0 counts, a
failure of another one is told to nobody, and a preemption of any of them begins all of them anew.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.modal.container import Container
from clouds.modal.rpc import Caller, new_id
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

if TYPE_CHECKING:
    from clouds.modal.functions import Call

WHOLE = 8
"""GPUs of a machine: a container of a cluster has all of them."""
MOST = 32
KINDS = frozenset(["A100", "A100-40GB", "A100-80GB", "H100", "H200", "B200", "B300"])


@dataclass
class Seat:
    """One container's part in an attempt.

    container  while it runs
    put        what it answered
    """

    task: str
    rank: int
    call: Call
    gang: Gang
    ipv6: str
    ipv4: str
    container: Container | None = None
    put: api_pb2.FunctionPutOutputsItem | None = None
    delivered: bool = False
    cancel_told: bool = False

    def write_hosts(self, path: Path) -> Path:
        """Names as the container sees them: its own address on the cluster's network is one."""
        own = Path("/etc/hosts").read_text("utf-8")
        path.write_text(f"{own}\n{self.ipv6} i6pn.modal.local\n", "utf-8")
        return path


@dataclass
class Gang:
    """The containers of one attempt, in order of rank.

    fallen  why all of them are ended
    """

    id: str
    clustered: bool
    seats: list[Seat] = field(default_factory=list)
    hello: set[int] = field(default_factory=set)
    there: asyncio.Event = field(default_factory=asyncio.Event)
    fallen: str = ""

    def living(self) -> list[Container]:
        """Those that run."""
        return [seat.container for seat in self.seats if seat.container is not None]

    def see_to(self, container: Container) -> None:
        """End one that has begun after the fall."""
        if self.fallen:
            container.kill(self.fallen)

    def fall(self, why: str) -> None:
        """End all of them, also those that have not begun."""
        self.fallen = self.fallen or why
        for container in self.living():
            container.kill(why)


class Clusters:
    """All containers that there were, by task, and what those of a cluster ask."""

    def __init__(self) -> None:
        self.seats: dict[str, Seat] = {}
        self._numbers = itertools.count(1)

    def gang(self, call: Call, size: int) -> Gang:
        """For a new attempt; `size` is 0 for a function that is not clustered.

        Which container has which rank is the provider's affair: they are started in any order.
        """
        made = Gang(new_id("cu"), clustered=size > 0)
        for rank in range(max(1, size)):
            number = next(self._numbers)
            # Of this machine, and its own: as the addresses of a cluster's network are.
            ipv4 = f"127.100.{number // 250}.{number % 250 + 1}"
            seat = Seat(new_id("ta"), rank, call, made, f"fd00::{number:x}", ipv4)
            made.seats.append(seat)
            self.seats[seat.task] = seat
        return made

    def of(self, caller: Caller) -> Seat:
        """Which container calls. Raises GRPCError for a client."""
        if caller.task not in self.seats:
            raise GRPCError(Status.PERMISSION_DENIED, "only a container may do that")
        return self.seats[caller.task]

    # ── RPCs ──────────────────────────────────────────────────────────────────────────────────

    async def TaskClusterHello(
        self, request: api_pb2.TaskClusterHelloRequest, caller: Caller
    ) -> api_pb2.TaskClusterHelloResponse:
        seat = self.of(caller)
        gang = seat.gang
        if not gang.clustered or (request.task_id, request.container_ip) != (seat.task, seat.ipv6):
            raise GRPCError(Status.INVALID_ARGUMENT, "that is no container of a cluster")
        gang.hello.add(seat.rank)
        if len(gang.hello) == len(gang.seats):
            gang.there.set()
        await gang.there.wait()
        return api_pb2.TaskClusterHelloResponse(
            cluster_id=gang.id,
            cluster_rank=seat.rank,
            container_ips=[one.ipv6 for one in gang.seats],
            container_ipv4_ips=[one.ipv4 for one in gang.seats],
            fabric_ids=["0" for _ in gang.seats],
        )

    async def ClusterGet(
        self, request: api_pb2.ClusterGetRequest, _: Caller
    ) -> api_pb2.ClusterGetResponse:
        tasks = [s.task for s in self.seats.values() if s.gang.id == request.cluster_id]
        if not tasks:
            raise GRPCError(Status.NOT_FOUND, f"Cluster {request.cluster_id} not found")
        found = api_pb2.ClusterStats(cluster_id=request.cluster_id, task_ids=tasks)
        return api_pb2.ClusterGetResponse(cluster=found)


def shuffled(gang: Gang) -> list[Seat]:
    """In the order in which they are started, which is nobody's promise."""
    return random.sample(gang.seats, len(gang.seats))


def require_valid(function: api_pb2.Function) -> None:
    """Raises GRPCError for a cluster that there cannot be."""
    size, gpu = function._experimental_group_size, function.resources.gpu_config
    if size and (gpu.count != WHOLE or gpu.gpu_type.rstrip("!+") not in KINDS):
        raise GRPCError(
            Status.INVALID_ARGUMENT,
            "clustered functions must use the full number of GPU devices per node",
        )
    if size > MOST:
        raise GRPCError(Status.INVALID_ARGUMENT, f"a cluster has at most {MOST} nodes")
