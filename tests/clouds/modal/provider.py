"""The whole control plane: put together, served, told by its test what to do, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from clouds.modal.apps import Apps
from clouds.modal.clusters import Clusters
from clouds.modal.functions import GPUS, Functions
from clouds.modal.logs import Logs
from clouds.modal.meter import Meter
from clouds.modal.objects import Account, Dicts, Images, Mounts, Secrets
from clouds.modal.rpc import Gate, service
from clouds.modal.store import Blobs
from clouds.modal.tunnels import Tunnels
from clouds.modal.volumes import Volumes
from grpclib.server import Server
from modal_proto import api_pb2


@dataclass
class World:
    """Everything there is.

    speed         provider seconds in one of ours, for time limits and background commits
    commit_every  provider seconds between two background commits
    image_env     what every image's containers have besides, as if it had been built so
    late          how long the container of a rank takes to begin, in our seconds
    """

    root: Path
    gate: Gate
    speed: float
    commit_every: float
    image_env: dict[str, str]
    gpu_env: dict[str, str] = field(default_factory=dict)
    quota: set[str] = field(default_factory=lambda: set(GPUS))
    full: set[str] = field(default_factory=set)
    late: dict[int, float] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.meter = Meter()
        self.blobs = Blobs(self.root / "blobs")
        self.volumes = Volumes(self.root / "volumes", self.blobs)
        self.apps = Apps()
        self.logs = Logs(lambda app: self.apps.get(app).over)
        self.account = Account()
        self.secrets = Secrets()
        self.mounts = Mounts()
        self.images = Images(self.image_env)
        self.dicts = Dicts()
        self.tunnels = Tunnels()
        self.clusters = Clusters()
        self.functions = Functions(self)
        self.apps.end_tasks = self.functions.end_tasks
        self.apps.has_open_calls = lambda app: bool(self.functions.busy_calls(app))
        self.apps.running_tasks = lambda app: sum(
            len(call.living) for call in self.functions.busy_calls(app)
        )
        self.apps.layout = self.functions.layout
        self.account.bill = lambda: [
            (app, self.apps.get(app).description, began, cost)
            for app, began, cost in self.meter.by_hour(self.account.hour_s, self.speed)
        ]

    def rooms(self) -> Sequence[object]:
        """Where the RPCs' methods are."""
        return (
            self.account,
            self.apps,
            self.blobs,
            self.clusters,
            self.dicts,
            self.functions,
            self.images,
            self.logs,
            self.mounts,
            self.secrets,
            self.tunnels,
            self.volumes,
        )

    def free(self, ranked: Sequence[api_pb2.Function]) -> str | None:
        """The first kind of GPU there is capacity for; "" for a function without; None: none."""
        for function in ranked:
            gpu = function.resources.gpu_config.gpu_type
            if gpu.rstrip("!+") not in self.full and not ("*" in self.full and gpu):
                return gpu
        return None


class Admin:
    """The back door: one verb a request, arguments and answer in JSON."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def serve(self, request: web.Request) -> web.Response:
        """`POST /admin/VERB`."""
        asked = await request.json()
        verb = getattr(self, f"do_{request.match_info['verb']}")
        return web.json_response(await verb(**asked))

    async def do_state(self) -> dict[str, Any]:
        world = self._world
        return {
            "apps": [vars(app) | {"over": app.over} for app in world.apps.all.values()],
            "calls": [
                {
                    "id": call.id,
                    "app": call.app,
                    "running": len(call.living),
                    "over": call.out is not None,
                    "status": None if call.out is None else int(call.out.result.status),
                    "retries": call.retries,
                    "attempts": call.attempts,
                    "preemptions": call.preemptions,
                    "gpu": call.gpu,
                }
                for call in world.functions.calls.values()
            ],
            "volumes": {one.name: str(one.folder) for one in world.volumes.all.values()},
            "commits": {one.name: one.commits for one in world.volumes.all.values()},
            "images": [one.commands for one in world.images.all.values()],
            "functions": [
                {
                    "gpu": [
                        [one.resources.gpu_config.gpu_type, one.resources.gpu_config.count]
                        for one in function.ranked
                    ],
                    "timeout": function.definition.timeout_secs,
                    "retries": function.definition.retry_policy.retries,
                    "milli_cpu": function.definition.resources.milli_cpu,
                    "memory_mb": function.definition.resources.memory_mb,
                    "disk_mb": function.definition.resources.ephemeral_disk_mb,
                    "secrets": len(function.definition.secret_ids),
                    "size": function.definition._experimental_group_size,
                }
                for function in world.functions.all.values()
                if function.ranked
            ],
            "dicts": {name: len(world.dicts.content[i]) for name, i in world.dicts.named.items()},
            "received_bytes": world.blobs.received_bytes,
            "spans": world.meter.as_json(),
            "rpcs": world.gate.calls,
            "trouble": world.trouble,
        }

    async def do_logs(self, app: str) -> str:
        return self._world.logs.text(app)

    async def do_fail(self, name: str, do: Any, **more: Any) -> int:
        return self._world.gate.faults.add(name, do, **more)

    async def do_hits(self, number: int) -> int:
        return self._world.gate.faults.hits(number)

    async def do_forgive(self) -> None:
        self._world.gate.faults.forget()

    async def do_set(self, **values: Any) -> None:
        """Change how the world is: see `Cloud`."""
        world = self._world
        for name, value in values.items():
            if name in {"silent", "expired"}:
                setattr(world.gate, name, value)
            elif name in {"full", "quota"}:
                setattr(world, name, set(value))
            elif name == "late":
                world.late = {int(rank): seconds for rank, seconds in value.items()}
            elif name in {"least_version", "has_reports", "hour_s"}:
                setattr(world.account, name, value)
            elif name == "breaks":
                world.images.breaks = value
                for image in world.images.all.values():
                    image.built = False
            elif name == "refuse_downloads":
                world.blobs.refuse_downloads = value
            elif name in {"speed", "commit_every"}:
                setattr(world, name, value)
            else:
                raise ValueError(name)

    async def do_limit(self, volume: str, limit: int | None) -> None:
        found = self._world.volumes.named(volume)
        assert found is not None
        found.limit_bytes = limit

    async def do_secret(self, name: str, values: dict[str, str]) -> None:
        number = f"st-{name}"
        self._world.secrets.values[number] = values
        self._world.secrets.named[name] = number

    async def do_preempt(self, call: str, grace: float, rank: int) -> None:
        await self._world.functions.preempt(self._world.functions.call(call), grace, rank)

    async def do_kill(self, call: str, rank: int) -> None:
        """The worker dies without a word, and the input begins again."""
        await self._end(call, rank, "preempted")

    async def do_lose(self, call: str, rank: int) -> None:
        """A container of a cluster is gone, and nobody is told."""
        await self._end(call, rank, "lost")

    async def _end(self, call: str, rank: int, why: str) -> None:
        found = self._world.functions.call(call).container(rank)
        if found is not None:
            found.kill(why)
            await found.over.wait()

    async def do_stop(self, app: str) -> None:
        await self._world.apps.stop(app)


async def serve(root: Path, told: dict[str, Any]) -> None:
    """Serve until standard input ends: then whoever opened the cloud has ended, too."""
    gate = Gate(told["token_id"], told["token_secret"])
    world = World(
        root,
        gate,
        speed=told["speed"],
        commit_every=told["commit_every"],
        image_env=told["image_env"],
        gpu_env=told["gpu_env"],
    )
    server = Server([service(world.rooms(), gate)])
    await server.start("127.0.0.1", 0)
    world.url = f"http://127.0.0.1:{_port(server._server)}"
    site = web.Application(client_max_size=1 << 30)
    site.add_routes([*world.blobs.routes(), *world.volumes.routes()])
    site.add_routes([web.post(f"/{told['admin']}/{{verb}}", Admin(world).serve)])
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    world.blobs.url = f"http://127.0.0.1:{_port(listener._server)}"
    print(json.dumps({"url": world.url, "http": world.blobs.url}), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, _read_on, ended)
    await ended.wait()
    await world.functions.close()
    server.close()
    await runner.cleanup()


def _read_on(ended: asyncio.Event) -> None:
    if not os.read(0, 4096):
        asyncio.get_running_loop().remove_reader(0)
        ended.set()


def _port(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


def begin() -> None:
    """`python -m clouds.modal FOLDER`, told by the first line of its standard input."""
    told = b""
    while not told.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            return
        told += more
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1]), json.loads(told)))
