"""What containers print, kept by app: streamed, counted, fetched."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from clouds.modal.rpc import Caller
from modal_proto import api_pb2

OUT = api_pb2.FILE_DESCRIPTOR_STDOUT
ERR = api_pb2.FILE_DESCRIPTOR_STDERR
INFO = api_pb2.FILE_DESCRIPTOR_INFO


@dataclass(frozen=True)
class Entry:
    """One piece of output."""

    app: str
    stream: int
    text: str
    at_ns: int
    function: str = ""
    call: str = ""
    task: str = ""


class Logs:
    """Everything that was printed, in order."""

    def __init__(self, app_over: Callable[[str], bool]) -> None:
        self._entries: list[Entry] = []
        self._app_over = app_over
        self._news = asyncio.Condition()

    def add(self, app: str, stream: int, text: str, **where: str) -> None:
        """Something was printed."""
        if text:
            self._entries.append(Entry(app, stream, text, time.time_ns(), **where))

    def text(self, app: str) -> str:
        """All of an app's output, for tests."""
        return "".join(entry.text for entry in self._entries if entry.app == app)

    # ── RPCs ──────────────────────────────────────────────────────────────────────────────────

    async def AppGetLogs(
        self, request: api_pb2.AppGetLogsRequest, _: Caller
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        number = int((request.last_entry_id or "0-0").split("-")[0])
        end = time.monotonic() + (request.timeout or 55)
        while time.monotonic() < end:
            over = self._app_over(request.app_id)
            while number < len(self._entries):
                entry, number = self._entries[number], number + 1
                if _fits(entry, request) and request.file_descriptor in {0, entry.stream}:
                    yield _batch(number, entry)
            if over:
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            await asyncio.sleep(0.1)

    async def AppFetchLogs(
        self, request: api_pb2.AppFetchLogsRequest, _: Caller
    ) -> api_pb2.AppFetchLogsResponse:
        first, last = request.since.ToNanoseconds(), request.until.ToNanoseconds()
        found = [
            (number + 1, entry)
            for number, entry in enumerate(self._entries)
            if _fits(entry, request)
            and first <= entry.at_ns < last
            and request.source in {0, entry.stream}
        ]
        batches = [_batch(*one) for one in found[-(request.limit or 1000) :]]
        return api_pb2.AppFetchLogsResponse(batches=batches)

    async def AppCountLogs(
        self, request: api_pb2.AppCountLogsRequest, _: Caller
    ) -> api_pb2.AppCountLogsResponse:
        first, last = request.since.ToNanoseconds(), request.until.ToNanoseconds()
        width = max(1, request.bucket_secs) * 10**9
        counts: dict[int, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
        for entry in self._entries:
            if _fits(entry, request) and first <= entry.at_ns < last:
                column = 0 if entry.stream == OUT else 1 if entry.stream == ERR else 2
                counts[entry.at_ns // width][column] += 1
        reply = api_pb2.AppCountLogsResponse(app_id=request.app_id)
        for key in range(first // width, last // width + 1):
            out, err, info = counts[key]
            row = reply.buckets.add(stdout_logs=out, stderr_logs=err, system_logs=info)
            row.bucket_start_at.FromNanoseconds(key * width)
        return reply


def _fits(entry: Entry, request: Any) -> bool:
    asked = (request.app_id, request.function_id, request.function_call_id, request.task_id)
    given = (entry.app, entry.function, entry.call, entry.task)
    same = all(not want or want == has for want, has in zip(asked, given, strict=True))
    return same and (not request.search_text or request.search_text in entry.text)


def _batch(number: int, entry: Entry) -> api_pb2.TaskLogsBatch:
    line = api_pb2.TaskLogs(
        data=entry.text,
        timestamp=entry.at_ns / 1e9,
        timestamp_ns=entry.at_ns,
        file_descriptor=entry.stream,  # type: ignore[arg-type]
        function_call_id=entry.call,
    )
    return api_pb2.TaskLogsBatch(
        entry_id=f"{number}-0", task_id=entry.task, function_id=entry.function, items=[line]
    )
