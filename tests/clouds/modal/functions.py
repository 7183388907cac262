"""Functions and their calls: queued, run in containers, retried, preempted, cancelled.

The containers of one attempt are a gang, of one where the function is not clustered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clouds.modal.clusters import Gang, Seat, require_valid, shuffled
from clouds.modal.container import Container
from clouds.modal.rpc import TASK_HEADER, Caller, new_id
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

if TYPE_CHECKING:
    from clouds.modal.provider import World

LONGEST_S = 86400
GPUS = frozenset(
    [
        "T4",
        "L4",
        "A10",
        "A10G",
        "L40S",
        "A100",
        "A100-40GB",
        "A100-80GB",
        "RTX-PRO-6000",
        "H100",
        "H200",
        "B200",
        "B300",
    ]
)
Result = api_pb2.GenericResult


@dataclass
class Function:
    """One function of an app, with its ranked variants of hardware."""

    id: str
    app: str
    definition: api_pb2.Function
    ranked: list[api_pb2.Function] = field(default_factory=list)


@dataclass
class Call:
    """One call with one input.

    gang  the containers of the last attempt
    put   what the leader answered in it, once it is over
    """

    id: str
    function: str
    app: str
    input_id: str
    input: api_pb2.FunctionInput
    kind: int
    created: float = field(default_factory=time.time)
    gang: Gang | None = None
    gpu: str = ""
    put: api_pb2.FunctionPutOutputsItem | None = None
    out: api_pb2.FunctionGetOutputsItem | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False
    retries: int = 0
    preemptions: int = 0
    attempts: int = 0

    @property
    def living(self) -> list[Container]:
        """The containers that run for it."""
        return [] if self.gang is None else self.gang.living()

    @property
    def over(self) -> bool:
        """It has its result, and nothing runs for it any more."""
        return self.out is not None and not self.living

    def container(self, rank: int = 0) -> Container | None:
        """One of them; None when it does not run."""
        return None if self.gang is None else self.gang.seats[rank].container

    def end(self, why: str) -> None:
        """End all of them."""
        if self.gang is not None:
            self.gang.fall(why)


class Functions:
    """All functions and calls, and the RPCs of clients and of containers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.all: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self.capacity = asyncio.Event()
        self.capacity.set()

    def call(self, call_id: str) -> Call:
        """Raises GRPCError when there is none."""
        if call_id not in self.calls:
            raise GRPCError(Status.NOT_FOUND, f"Function call {call_id} not found")
        return self.calls[call_id]

    def open_calls(self, app: str) -> list[Call]:
        """Calls of an app that have no result."""
        return [call for call in self.calls.values() if call.app == app and call.out is None]

    def busy_calls(self, app: str) -> list[Call]:
        """Calls of an app that have no result, or for which a container still runs."""
        return [call for call in self.calls.values() if call.app == app and not call.over]

    def layout(self, app: str) -> api_pb2.AppLayout:
        """The functions of an app, as its containers are told."""
        mine = [one for one in self.all.values() if one.app == app]
        return api_pb2.AppLayout(
            function_ids={one.definition.function_name: one.id for one in mine},
            objects=[
                api_pb2.Object(object_id=one.id, function_handle_metadata=_handle(one))
                for one in mine
            ],
        )

    # ── RPCs of a client ──────────────────────────────────────────────────────────────────────

    async def FunctionPrecreate(
        self, request: api_pb2.FunctionPrecreateRequest, _: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        number = request.existing_function_id or new_id("fu")
        definition = api_pb2.Function(
            function_name=request.function_name,
            function_type=request.function_type,
            function_schema=request.function_schema,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        made = self.all[number] = Function(number, request.app_id, definition)
        return api_pb2.FunctionPrecreateResponse(function_id=number, handle_metadata=_handle(made))

    async def FunctionCreate(
        self, request: api_pb2.FunctionCreateRequest, _: Caller
    ) -> api_pb2.FunctionCreateResponse:
        data = request.function_data
        if not data.ranked_functions:
            one = api_pb2.FunctionData.RankedFunction(rank=0, function=request.function)
            data = api_pb2.FunctionData(ranked_functions=[one])
        ranked = [row.function for row in data.ranked_functions]
        for function in ranked:
            _require_valid(function)
            wanted = function.resources.gpu_config
            if wanted.gpu_type and wanted.gpu_type.rstrip("!+") not in self._world.quota:
                raise GRPCError(
                    Status.FAILED_PRECONDITION,
                    f"workspace has no quota for GPU type {wanted.gpu_type}",
                )
        number = request.existing_function_id or new_id("fu")
        made = self.all[number] = Function(number, request.app_id, ranked[0], ranked)
        return api_pb2.FunctionCreateResponse(
            function_id=number,
            function=ranked[0],
            function_data=data,
            handle_metadata=_handle(made),
        )

    async def FunctionMap(
        self, request: api_pb2.FunctionMapRequest, _: Caller
    ) -> api_pb2.FunctionMapResponse:
        function = self.all[request.function_id]
        if self._world.apps.get(function.app).over:
            raise GRPCError(Status.FAILED_PRECONDITION, "The app is stopped")
        (item,) = request.pipelined_inputs
        call = Call(
            new_id("fc"),
            function.id,
            function.app,
            new_id("in"),
            item.input,
            request.function_call_invocation_type,
        )
        self.calls[call.id] = call
        task = asyncio.create_task(self._run(call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return api_pb2.FunctionMapResponse(
            function_call_id=call.id,
            function_call_jwt="jwt",
            retry_policy=function.definition.retry_policy,
            pipelined_inputs=[
                api_pb2.FunctionPutInputsResponseItem(
                    idx=item.idx, input_id=call.input_id, input_jwt="jwt"
                )
            ],
        )

    async def FunctionCallFromId(
        self, request: api_pb2.FunctionCallFromIdRequest, _: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self.call(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.id,
            num_inputs=1,
            metadata=api_pb2.FunctionCallHandleMetadata(app_id=call.app, function_id=call.function),
        )

    async def FunctionGetOutputs(
        self, request: api_pb2.FunctionGetOutputsRequest, _: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self.call(request.function_call_id)
        if call.out is None and request.timeout:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(call.done.wait(), request.timeout)
        outputs = [] if call.out is None else [call.out]
        return api_pb2.FunctionGetOutputsResponse(
            outputs=outputs, num_unfinished_inputs=1 - len(outputs)
        )

    async def FunctionCallGetInfo(
        self, request: api_pb2.FunctionCallGetInfoRequest, _: Caller
    ) -> api_pb2.FunctionCallGetInfoResponse:
        call = self.call(request.function_call_id)
        status = None if call.out is None else call.out.result.status
        kinds = {
            Result.GENERIC_STATUS_SUCCESS: "succeeded_inputs",
            Result.GENERIC_STATUS_TERMINATED: "cancelled_inputs",
            Result.GENERIC_STATUS_TIMEOUT: "timeout_inputs",
        }
        name = "pending_inputs" if status is None else kinds.get(status, "failed_inputs")
        one: Any = {name: api_pb2.InputCategoryInfo(total=1)}
        info = api_pb2.FunctionCallInfo(
            function_call_id=call.id, created_at=call.created, total_inputs=1, **one
        )
        return api_pb2.FunctionCallGetInfoResponse(info=info)

    async def FunctionCallCancel(
        self, request: api_pb2.FunctionCallCancelRequest, _: Caller
    ) -> Empty:
        call = self.call(request.function_call_id)
        call.cancelled = True
        if not call.living:
            self._finish(call, Result(status=Result.GENERIC_STATUS_TERMINATED))
        elif request.terminate_containers:
            call.end("cancelled")
        return Empty()

    # ── RPCs of a container ───────────────────────────────────────────────────────────────────

    async def ContainerHello(self, request: Empty, _: Caller) -> Empty:
        return Empty()

    async def ContainerHeartbeat(
        self, request: api_pb2.ContainerHeartbeatRequest, caller: Caller
    ) -> api_pb2.ContainerHeartbeatResponse:
        seat = self._of(caller)
        if seat.call.cancelled and not seat.cancel_told and seat.delivered:
            seat.cancel_told = True
            event = api_pb2.CancelInputEvent(input_ids=[seat.call.input_id])
            return api_pb2.ContainerHeartbeatResponse(cancel_input_event=event)
        return api_pb2.ContainerHeartbeatResponse()

    async def FunctionGetInputs(
        self, request: api_pb2.FunctionGetInputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetInputsResponse:
        seat = self._of(caller)
        call = seat.call
        if seat.delivered:
            end = api_pb2.FunctionGetInputsItem(kill_switch=True)
            return api_pb2.FunctionGetInputsResponse(inputs=[end])
        seat.delivered = True
        item = api_pb2.FunctionGetInputsItem(
            input_id=call.input_id,
            input=call.input,
            function_call_id=call.id,
            retry_count=call.retries,
            function_call_invocation_type=call.kind,  # type: ignore[arg-type]
        )
        return api_pb2.FunctionGetInputsResponse(inputs=[item])

    async def FunctionPutOutputs(
        self, request: api_pb2.FunctionPutOutputsRequest, caller: Caller
    ) -> Empty:
        self._of(caller).put = request.outputs[0]
        return Empty()

    async def TaskResult(self, request: api_pb2.TaskResultRequest, caller: Caller) -> Empty:
        seat = self._of(caller)
        seat.put = api_pb2.FunctionPutOutputsItem(
            input_id=seat.call.input_id,
            result=request.result,
            data_format=api_pb2.DATA_FORMAT_PICKLE,
        )
        return Empty()

    async def VolumeCommit(
        self, request: api_pb2.VolumeCommitRequest, caller: Caller
    ) -> api_pb2.VolumeCommitResponse:
        self._of(caller)
        volume = self._world.volumes.get(request.volume_id)
        await asyncio.to_thread(volume.commit, caller.task)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, caller: Caller) -> Empty:
        container = self._of(caller).container
        volume = self._world.volumes.get(request.volume_id)
        assert container is not None
        at = next(at for at, one in container.volumes.items() if one is volume)
        if await asyncio.to_thread(container.open_file, at):
            raise GRPCError(
                Status.FAILED_PRECONDITION, "there are open files preventing the operation"
            )
        await asyncio.to_thread(volume.reload, caller.task)
        return Empty()

    def _of(self, caller: Caller) -> Seat:
        return self._world.clusters.of(caller)

    # ── running ───────────────────────────────────────────────────────────────────────────────

    async def _run(self, call: Call) -> None:
        """One call, attempt after attempt, until it has a result."""
        try:
            while call.out is None:
                await self._wait_for_capacity(call)
                if call.out is None:
                    await self._attempt(call)
        except Exception as error:
            self._world.trouble.append(repr(error))
            raise

    async def _wait_for_capacity(self, call: Call) -> None:
        while call.out is None:
            found = self._world.free(self.all[call.function].ranked)
            if found is not None:
                call.gpu = found
                return
            await asyncio.sleep(0.05)

    async def _attempt(self, call: Call) -> None:
        function = self.all[call.function].definition
        call.attempts += 1
        gang = self._world.clusters.gang(call, function._experimental_group_size)
        call.gang, call.put = gang, None
        tasks = {seat.rank: self._begin(seat, function) for seat in shuffled(gang)}
        ended = await tasks.pop(0)
        call.put = gang.seats[0].put
        good = call.put is not None and call.put.result.status == Result.GENERIC_STATUS_SUCCESS
        if not good or ended.why:
            gang.fall("leaderless")
            await asyncio.gather(*tasks.values())
        # Else the others run on, and bill, until they end by themselves, or with the app.
        self._judge(call, ended, function)

    def _begin(self, seat: Seat, function: api_pb2.Function) -> asyncio.Task[Container]:
        task = asyncio.create_task(self._sit(seat, function))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _sit(self, seat: Seat, function: api_pb2.Function) -> Container:
        """One container of an attempt, from its beginning to its end."""
        call, gang, world = seat.call, seat.gang, self._world
        meter = world.meter.begin(call.app, call.gpu, function.resources)
        try:
            container = await self._container(seat, function)
            await asyncio.sleep(world.late.get(seat.rank, 0.0))
            if gang.fallen:
                container.why = gang.fallen
                return container
            await container.start()
            seat.container = container
            gang.see_to(container)
            minding = asyncio.create_task(self._mind(container, function))
            await container.wait()
            minding.cancel()
            container.clear()
        except Exception as error:
            world.trouble.append(repr(error))
            raise
        finally:
            meter.finish()
            seat.container = None
        if container.why == "preempted":
            gang.fall("preempted")
        world.apps.settle(call.app)
        return container

    async def _container(self, seat: Seat, function: api_pb2.Function) -> Container:
        world, call, task = self._world, seat.call, seat.task
        folder = world.root / "tasks" / task
        folder.mkdir(parents=True)
        sources = folder / "sources"
        for number in function.mount_ids:
            for name, digest in world.mounts.files.get(number, ()):
                target = sources / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(world.blobs.path(digest).read_bytes())
        arguments = folder / "arguments"
        arguments.write_bytes(
            api_pb2.ContainerArguments(
                task_id=task,
                function_id=call.function,
                app_id=call.app,
                function_def=function,
                environment_name="main",
                app_layout=self.layout(call.app),
            ).SerializeToString()
        )
        env = dict(world.images.all[function.image_id].env) if function.image_id else {}
        for number in function.secret_ids:
            env |= world.secrets.values[number]
        if call.gpu:
            env |= world.gpu_env
        env |= {
            "MODAL_SERVER_URL": world.url,
            "MODAL_TASK_ID": task,
            "MODAL_IS_REMOTE": "1",
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "MODAL_OVERRIDE_HEADERS": f"{TASK_HEADER}:{task}",
            "MODAL_FUNCTION_RUNTIME": "loopback",
            "MODAL_HEARTBEAT_INTERVAL": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(sources / "root"),
        }
        hosts = None
        if seat.gang.clustered:
            hosts = await asyncio.to_thread(seat.write_hosts, folder / "hosts")
            env["MODAL_CLOUD_PROVIDER"] = "CLOUD_PROVIDER_OCI"
        volumes = {
            mount.mount_path: world.volumes.get(mount.volume_id) for mount in function.volume_mounts
        }
        where = {"function": call.function, "call": call.id, "task": task}

        def said(stream: int, text: str) -> None:
            world.logs.add(call.app, stream, text, **where)

        return Container(task, folder, volumes, env, said, hosts=hosts)

    async def _mind(self, container: Container, function: api_pb2.Function) -> None:
        """Background commits, and the attempt's time limit."""
        limit = (function.timeout_secs or 300) / self._world.speed
        committed = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            if now - container.began > limit:
                container.kill("timeout")
                return
            if now - committed > self._world.commit_every / self._world.speed:
                committed = now
                for mount in function.volume_mounts:
                    if mount.allow_background_commits:
                        volume = self._world.volumes.get(mount.volume_id)
                        try:
                            await asyncio.to_thread(volume.commit, container.task)
                        except (GRPCError, KeyError):
                            continue

    def _judge(self, call: Call, container: Container, function: api_pb2.Function) -> None:
        if container.why == "preempted" and not call.cancelled:
            call.preemptions += 1
            words = "Runner interrupted due to worker preemption. Your Function will be restarted "
            self._world.logs.add(call.app, 3, f"{words}with the same input.\n", call=call.id)
            return
        result = None if call.put is None else call.put.result
        if container.why == "timeout":
            result = Result(status=Result.GENERIC_STATUS_TIMEOUT)
        elif call.cancelled or container.why in {"cancelled", "stopped"}:
            result = Result(status=Result.GENERIC_STATUS_TERMINATED)
        elif result is None:
            result = Result(
                status=Result.GENERIC_STATUS_INTERNAL_FAILURE,
                exception=f"the container ended with code {container.code}",
            )
        final = {Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_TERMINATED}
        if result.status not in final and call.retries < function.retry_policy.retries:
            call.retries += 1
            return
        self._finish(call, result)

    def _finish(self, call: Call, result: api_pb2.GenericResult) -> None:
        kind = api_pb2.DATA_FORMAT_PICKLE if call.put is None else call.put.data_format
        call.out = api_pb2.FunctionGetOutputsItem(
            result=result, idx=0, input_id=call.input_id, data_format=kind, retry_count=call.retries
        )
        call.done.set()
        self._world.apps.settle(call.app)

    async def end_tasks(self, app: str, why: str = "stopped") -> None:
        """End every container of an app; returns when they are gone."""
        for call in self.busy_calls(app):
            call.cancelled = True
            living = call.living
            call.end(why)
            if not living and call.out is None:
                self._finish(call, Result(status=Result.GENERIC_STATUS_TERMINATED))
            for container in living:
                await container.over.wait()
        for call in self.open_calls(app):
            await call.done.wait()

    async def preempt(self, call: Call, grace_s: float, rank: int) -> None:
        """The worker is needed elsewhere: SIGINT, a grace, SIGKILL. Others are told nothing."""
        container = call.container(rank)
        if container is None:
            return
        container.why = "preempted"
        container.interrupt()
        try:
            await asyncio.wait_for(container.over.wait(), grace_s)
        except TimeoutError:
            container.kill("preempted")

    async def close(self) -> None:
        """End everything."""
        for call in self.calls.values():
            if not call.over:
                call.cancelled = True
                call.end("stopped")
        await asyncio.sleep(0)
        for task in list(self._running):
            task.cancel()


def _require_valid(function: api_pb2.Function) -> None:
    if function.timeout_secs > LONGEST_S:
        raise GRPCError(Status.INVALID_ARGUMENT, "timeout must be at most 24 hours")
    gpu = function.resources.gpu_config
    if gpu.gpu_type and gpu.gpu_type.rstrip("!+") not in GPUS:
        raise GRPCError(Status.INVALID_ARGUMENT, f"Unknown GPU type {gpu.gpu_type}")
    if gpu.count > 8:
        raise GRPCError(Status.INVALID_ARGUMENT, "at most 8 GPUs a container")
    require_valid(function)


def _handle(function: Function) -> api_pb2.FunctionHandleMetadata:
    definition = function.definition
    return api_pb2.FunctionHandleMetadata(
        function_name=definition.function_name,
        function_type=definition.function_type,
        definition_id=f"de-{function.id}",
        app_id=function.app,
        function_schema=definition.function_schema,
        supported_input_formats=definition.supported_input_formats,
        supported_output_formats=definition.supported_output_formats,
    )
