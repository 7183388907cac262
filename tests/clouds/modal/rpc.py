"""How an RPC finds its method: rooms of methods that bear the RPCs' own names, behind one gate."""

from __future__ import annotations

import inspect
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clouds.modal.faults import Faults
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from modal_proto import api_grpc, api_pb2

TASK_HEADER = "x-loopback-task"
"""Container RPCs carry no task id, so each container is given a header of its own."""

_LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str) -> str:
    """An id as Modal's look: `ap-…`, `fc-…`."""
    return f"{prefix}-{''.join(secrets.choice(_LETTERS) for _ in range(22))}"


@dataclass(frozen=True)
class Caller:
    """Who calls: a client, or a container (`task` is its id)."""

    task: str = ""


@dataclass
class Gate:
    """Credentials, faults and a journal, in front of every RPC.

    calls  the name of every RPC so far, in order
    """

    token_id: str
    token_secret: str
    faults: Faults = field(default_factory=Faults)
    calls: list[str] = field(default_factory=list)
    silent: bool = False
    expired: bool = False
    least_version: str = ""

    def admit(self, metadata: Any) -> Caller:
        """Who calls. Raises GRPCError for a token that is not the account's."""
        task = str(metadata.get(TASK_HEADER, ""))
        if task:
            return Caller(task)
        kind = str(metadata.get("x-modal-client-type", ""))
        given = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if kind == str(api_pb2.CLIENT_TYPE_CLIENT) and (
            self.expired or given != (self.token_id, self.token_secret)
        ):
            words = "Token has expired" if self.expired else "Token ID is malformed or unknown"
            raise GRPCError(Status.UNAUTHENTICATED, words)
        return Caller()


def service(rooms: Sequence[object], gate: Gate) -> Any:
    """The grpclib service that answers with the rooms' methods."""
    found = {
        name: method
        for room in rooms
        for name, method in inspect.getmembers(room, inspect.isroutine)
        if name[:1].isupper()
    }
    base = api_grpc.ModalClientBase
    names: set[str] = set(base.__abstractmethods__)
    if odd := set(found) - names:
        raise AssertionError(f"no such RPC: {sorted(odd)}")
    body = {name: _answering(name, found.get(name), gate) for name in names}
    return type("LoopbackService", (base,), body)()


def _answering(name: str, method: Any, gate: Gate) -> Any:
    async def answer(_: object, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        gate.calls.append(name)
        if gate.silent:
            raise GRPCError(Status.UNAVAILABLE, "nobody is here")
        caller = gate.admit(stream.metadata or {})
        if method is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not known to the loopback provider")
        fault = gate.faults.strike(name)
        if fault is not None:
            await fault.before(stream)
        if inspect.isasyncgenfunction(method):
            async for part in method(request, caller):
                await stream.send_message(part)
            return
        reply = await method(request, caller)
        if fault is not None:
            await fault.after(stream)
        await stream.send_message(reply)

    return answer
