"""Apps: made, published, left by their client, stopped, listed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from clouds.modal.rpc import Caller, new_id
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

HEARTBEAT_S = 300.0
"""An app that is neither detached nor deployed ends this long after its client's last sign."""


@dataclass
class App:
    """One app. `closing`: its client has left, and it ends with its last call."""

    id: str
    description: str
    state: int
    tags: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    stopped: float = 0.0
    closing: bool = False

    @property
    def over(self) -> bool:
        """Nothing runs in it any more."""
        return self.state == api_pb2.APP_STATE_STOPPED


class Apps:
    """All apps, and the RPCs on them."""

    def __init__(self) -> None:
        self.all: dict[str, App] = {}
        self.end_tasks: Callable[[str], Awaitable[None]]
        self.has_open_calls: Callable[[str], bool]
        self.running_tasks: Callable[[str], int]
        self.layout: Callable[[str], api_pb2.AppLayout]

    def get(self, app_id: str) -> App:
        """Raises GRPCError when there is none."""
        if app_id not in self.all:
            raise GRPCError(Status.NOT_FOUND, f"App {app_id} not found")
        return self.all[app_id]

    def settle(self, app_id: str) -> None:
        """End an app whose client has left, once its calls are over."""
        app = self.all[app_id]
        if app.closing and not app.over and not self.has_open_calls(app_id):
            app.state, app.stopped = api_pb2.APP_STATE_STOPPED, time.time()

    async def stop(self, app_id: str) -> None:
        """End an app and all its containers."""
        app = self.get(app_id)
        if not app.over:
            app.state, app.stopped = api_pb2.APP_STATE_STOPPED, time.time()
            await self.end_tasks(app_id)

    # ── RPCs ──────────────────────────────────────────────────────────────────────────────────

    async def AppCreate(
        self, request: api_pb2.AppCreateRequest, _: Caller
    ) -> api_pb2.AppCreateResponse:
        number = new_id("ap")
        self.all[number] = App(number, request.description, request.app_state, dict(request.tags))
        return api_pb2.AppCreateResponse(app_id=number, app_page_url=f"http://127.0.0.1/{number}")

    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, _: Caller) -> Empty:
        if self.get(request.app_id).over:
            raise GRPCError(Status.NOT_FOUND, "App has been stopped")
        return Empty()

    async def AppPublish(
        self, request: api_pb2.AppPublishRequest, _: Caller
    ) -> api_pb2.AppPublishResponse:
        app = self.get(request.app_id)
        app.functions = dict(request.function_ids)
        app.state = request.app_state
        app.tags |= dict(request.tags)
        return api_pb2.AppPublishResponse(url="http://127.0.0.1/", deployed_at=time.time())

    async def AppClientDisconnect(
        self, request: api_pb2.AppClientDisconnectRequest, _: Caller
    ) -> Empty:
        app = self.get(request.app_id)
        if app.state in {api_pb2.APP_STATE_DETACHED, api_pb2.APP_STATE_DETACHED_DISCONNECTED}:
            app.state, app.closing = api_pb2.APP_STATE_DETACHED_DISCONNECTED, True
            self.settle(app.id)
        elif not app.over:
            await self.stop(app.id)
        return Empty()

    async def AppStop(self, request: api_pb2.AppStopRequest, _: Caller) -> Empty:
        await self.stop(request.app_id)
        return Empty()

    async def AppList(self, request: api_pb2.AppListRequest, _: Caller) -> api_pb2.AppListResponse:
        rows = [
            api_pb2.AppListResponse.AppListItem(
                app_id=app.id,
                description=app.description,
                name="",
                state=app.state,  # type: ignore[arg-type]
                created_at=app.created,
                stopped_at=app.stopped,
                n_running_tasks=self.running_tasks(app.id),
            )
            for app in self.all.values()
        ]
        return api_pb2.AppListResponse(apps=rows)

    async def AppGetLayout(
        self, request: api_pb2.AppGetLayoutRequest, _: Caller
    ) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=self.layout(request.app_id))

    async def AppGetTags(
        self, request: api_pb2.AppGetTagsRequest, _: Caller
    ) -> api_pb2.AppGetTagsResponse:
        return api_pb2.AppGetTagsResponse(tags=self.get(request.app_id).tags)
