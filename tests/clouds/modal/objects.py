"""What is neither an app nor a volume: the account, secrets, source mounts, images, dicts."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal

from clouds.modal.rpc import Caller, new_id
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

BUILDER_VERSION = "2025.06"
RATES = {
    "gpu_hour_cost_t4": "0.59",
    "gpu_hour_cost_l4": "0.80",
    "gpu_hour_cost_a10g": "1.10",
    "gpu_hour_cost_l40s": "1.95",
    "gpu_hour_cost_a100_40gb": "2.10",
    "gpu_hour_cost_a100_80gb": "2.50",
    "gpu_hour_cost_rtx6000": "3.03",
    "gpu_hour_cost_h100": "3.95",
    "gpu_hour_cost_h200": "4.54",
    "gpu_hour_cost_b200": "6.25",
    "gpu_hour_cost_b300": "7.10",
    "cpu_hour_cost": "0.04730",
    "mem_gib_hour_cost": "0.00800",
    "volume_storage_gib_month_cost": "0.09000",
}


class Account:
    """The workspace: who one is, and what things cost.

    has_reports  whether the account's plan has billing reports
    hour_s       how long an hour of the report is
    bill         app, its description, an hour's begin, what it cost
    """

    def __init__(self) -> None:
        self.least_version = ""
        self.has_reports = False
        self.hour_s = 3600.0
        self.bill: Callable[[], list[tuple[str, str, float, Decimal]]] = list

    async def ClientHello(self, request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
        if self.least_version:
            raise GRPCError(
                Status.FAILED_PRECONDITION,
                f"The client version is too old. Please update to {self.least_version} or newer",
            )
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    async def AuthTokenGet(
        self, request: api_pb2.AuthTokenGetRequest, _: Caller
    ) -> api_pb2.AuthTokenGetResponse:
        # A token without a signature that is valid till 2100; the SDK reads its end.
        return api_pb2.AuthTokenGetResponse(token="eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.x")

    async def WorkspaceNameLookup(
        self, request: Empty, _: Caller
    ) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(workspace_name="loopback", username="loopback")

    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER_VERSION)
        name = request.deployment_name or "main"
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-main",
            metadata=api_pb2.EnvironmentMetadata(name=name, settings=settings),
        )

    async def WorkspaceBillingRates(
        self, request: api_pb2.WorkspaceBillingRatesRequest, _: Caller
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        return api_pb2.WorkspaceBillingRatesResponse(rates=RATES)

    async def WorkspaceBillingReport(
        self, request: api_pb2.WorkspaceBillingReportRequest, _: Caller
    ) -> AsyncIterator[api_pb2.WorkspaceBillingReportItem]:
        if not self.has_reports:
            raise GRPCError(Status.PERMISSION_DENIED, "Billing reports need a Team plan")
        for app, description, began, dollars in self.bill():
            if began + self.hour_s > time.time():
                continue  # an hour that is not over is not in the report
            item = api_pb2.WorkspaceBillingReportItem(
                object_id=app, description=description, cost=str(dollars)
            )
            item.interval.FromSeconds(int(began))
            yield item


class Secrets:
    """Names and values that become a container's environment."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}
        self.named: dict[str, str] = {}

    async def SecretGetOrCreate(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        name = request.deployment_name
        if name and not request.env_dict:
            if name not in self.named:
                raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' not found in environment main")
            number = self.named[name]
        else:
            number = new_id("st")
            self.values[number] = dict(request.env_dict)
            if name:
                self.named[name] = number
        return api_pb2.SecretGetOrCreateResponse(
            secret_id=number, metadata=api_pb2.SecretMetadata(name=name)
        )


class Mounts:
    """Source files that a container sees below /root."""

    def __init__(self) -> None:
        self.files: dict[str, list[tuple[str, str]]] = {}

    async def MountGetOrCreate(
        self, request: api_pb2.MountGetOrCreateRequest, _: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        number = new_id("mo")
        self.files[number] = [(file.filename, file.sha256_hex) for file in request.files]
        return api_pb2.MountGetOrCreateResponse(mount_id=number)


@dataclass
class Image:
    """An image as it was asked for. `env`: what its ENV lines set."""

    commands: list[str]
    env: dict[str, str] = field(default_factory=dict)
    built: bool = False


class Images:
    """Images are recorded, and built in words; `breaks` holds the last lines of one that does not.

    A container runs on this very machine, with the image's variables.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self.all: dict[str, Image] = {}
        self.breaks: list[str] = []

    async def ImageGetOrCreate(
        self, request: api_pb2.ImageGetOrCreateRequest, _: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        digest = hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()
        number = f"im-{digest[:22]}"
        if number not in self.all:
            env: dict[str, str] = {}
            for base in request.image.base_images:
                env |= self.all[base.image_id].env
            for command in request.image.dockerfile_commands:
                if command.startswith("ENV "):
                    pairs = [pair.partition("=") for pair in shlex.split(command[4:])]
                    env |= {name: value for name, _, value in pairs}
            self.all[number] = Image(list(request.image.dockerfile_commands), env | self._env)
        built = self.all[number].built
        return api_pb2.ImageGetOrCreateResponse(
            image_id=number,
            result=_SUCCESS if built else None,
            metadata=_image_metadata() if built else None,
        )

    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, _: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        image = self.all[request.image_id]
        for number, command in enumerate(image.commands, 1):
            line = api_pb2.TaskLogs(data=f"=> Step {number}: {command}\n", timestamp=0.0)
            yield api_pb2.ImageJoinStreamingResponse(task_logs=[line], entry_id=f"{number}-0")
        if self.breaks and any("uv" in command for command in image.commands):
            for number, text in enumerate(self.breaks, len(image.commands) + 1):
                line = api_pb2.TaskLogs(data=f"{text}\n", timestamp=0.0)
                yield api_pb2.ImageJoinStreamingResponse(task_logs=[line], entry_id=f"{number}-0")
            failure = api_pb2.GenericResult(
                status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=self.breaks[-1]
            )
            yield api_pb2.ImageJoinStreamingResponse(result=failure)
            return
        image.built = True
        yield api_pb2.ImageJoinStreamingResponse(result=_SUCCESS, metadata=_image_metadata())


_SUCCESS = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def _image_metadata() -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(
        image_builder_version=BUILDER_VERSION, python_version_info="Python 3.11.9"
    )


class Dicts:
    """Named dictionaries of bytes."""

    def __init__(self) -> None:
        self.named: dict[str, str] = {}
        self.content: dict[str, dict[bytes, bytes]] = {}

    def _get(self, number: str) -> dict[bytes, bytes]:
        if number not in self.content:
            raise GRPCError(Status.NOT_FOUND, f"Dict {number} not found")
        return self.content[number]

    async def DictGetOrCreate(
        self, request: api_pb2.DictGetOrCreateRequest, _: Caller
    ) -> api_pb2.DictGetOrCreateResponse:
        name = request.deployment_name
        number = self.named.get(name)
        if number is None:
            if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Dict '{name}' not found in environment main")
            number = self.named[name] = new_id("di")
            self.content[number] = {}
        return api_pb2.DictGetOrCreateResponse(
            dict_id=number, metadata=api_pb2.DictMetadata(name=name)
        )

    async def DictUpdate(
        self, request: api_pb2.DictUpdateRequest, _: Caller
    ) -> api_pb2.DictUpdateResponse:
        content = self._get(request.dict_id)
        made = False
        for entry in request.updates:
            if not (request.if_not_exists and entry.key in content):
                content[entry.key] = entry.value
                made = True
        return api_pb2.DictUpdateResponse(created=made)

    async def DictGet(self, request: api_pb2.DictGetRequest, _: Caller) -> api_pb2.DictGetResponse:
        value = self._get(request.dict_id).get(request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    async def DictPop(self, request: api_pb2.DictPopRequest, _: Caller) -> api_pb2.DictPopResponse:
        value = self._get(request.dict_id).pop(request.key, None)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def DictContents(
        self, request: api_pb2.DictContentsRequest, _: Caller
    ) -> AsyncIterator[api_pb2.DictEntry]:
        for key, value in list(self._get(request.dict_id).items()):
            yield api_pb2.DictEntry(
                key=key if request.keys else b"", value=value if request.values else b""
            )
