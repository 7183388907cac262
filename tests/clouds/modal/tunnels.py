"""Tunnels: what they lead to is on this machine already, so only their addresses are made up."""

from __future__ import annotations

from clouds.modal.rpc import Caller
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2


class Tunnels:
    """Ports of containers that are open to the world; `open` holds those that are now."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.ever: list[int] = []

    async def TunnelStart(
        self, request: api_pb2.TunnelStartRequest, caller: Caller
    ) -> api_pb2.TunnelStartResponse:
        if not caller.task:
            raise GRPCError(Status.PERMISSION_DENIED, "only a container may do that")
        self.open[request.port] = caller.task
        self.ever.append(request.port)
        return api_pb2.TunnelStartResponse(
            host="127.0.0.1",
            port=request.port,
            unencrypted_host="127.0.0.1",
            unencrypted_port=request.port,
        )

    async def TunnelStop(
        self, request: api_pb2.TunnelStopRequest, caller: Caller
    ) -> api_pb2.TunnelStopResponse:
        return api_pb2.TunnelStopResponse(exists=self.open.pop(request.port, None) is not None)
