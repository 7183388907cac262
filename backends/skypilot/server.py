"""The user's SkyPilot: its SDK, imported when it is needed, and its API server, in our words.

Every call of the SDK is a request that the server works on whether we wait for it or not. So a
lost answer is asked for again by the request's id, and a lost id by the cluster's name.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from backends.errors import CredentialsMissing, Lost, NoCapacity, Refused, Unreachable
from backends.skypilot.errors import plain, translated
from backends.skypilot.unanswered import AGAIN, LOGIN, START, START_NONE

T = TypeVar("T")

PREFIX = "ftlaunch-"
"""What every cluster of ours is called by."""

LOCAL = "http://127.0.0.1:46580"
_READS = 3
_PATIENCE_S, _SHORT_S = 300.0, 60.0
"""How long a silent server is asked again: for the answer to a request that it took in, and to take
one in, which it may have done."""


@dataclass(frozen=True)
class Row:
    """A cluster as the server lists it.

    status    INIT, UP or STOPPED
    autostop  idle minutes after which it ends; -1: never
    down      it is taken down then, not stopped
    gpu       of each of its nodes; `count` of them
    """

    name: str
    status: str
    cloud: str
    region: str
    autostop: int
    down: bool
    launched_at: int
    gpu: str | None = None
    count: int = 0
    nodes: int = 1


def _accelerators(found: Any) -> tuple[str | None, int]:
    """Of a cluster: SkyPilot says them as a mapping, or as the text of one."""
    if isinstance(found, str):
        named = re.search(r"'([^']+)': ([0-9.]+)", found)
        return (named[1], int(float(named[2]))) if named else (None, 0)
    if isinstance(found, Mapping) and found:
        kind, count = next(iter(found.items()))
        return str(kind), int(count)
    return None, 0


@dataclass(frozen=True)
class Considered:
    """A row of the optimizer's table: the best that one cloud has for a task.

    gpu, count  None and 0 without a GPU
    cost        dollars an hour, for all nodes together
    """

    cloud: str
    region: str
    cpus: int | None
    memory_gib: float | None
    gpu: str | None
    count: int
    cost: Decimal


class Server:
    """One user's SkyPilot, as the environment and `~/.sky/config.yaml` say."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @property
    def sdk(self) -> Any:
        """The SDK. Raises CredentialsMissing where it is not installed."""
        try:
            import sky
        except ImportError as error:
            raise CredentialsMissing(
                "SkyPilot is not installed", hint="install it with: pip install ftlaunch[skypilot]"
            ) from error
        os.environ.update(START_NONE)
        # What it tells a person at its own command line is not meant for one at ours.
        logging.getLogger("sky").setLevel(logging.ERROR)
        return sky

    @property
    def home(self) -> Path:
        """The user's HOME, which is where SkyPilot keeps its files."""
        return Path(self._environ.get("HOME") or Path.home())

    def url(self) -> str:
        """Where the API server answers, or would."""
        if found := self._environ.get("SKYPILOT_API_SERVER_ENDPOINT"):
            return found.rstrip("/")
        port = self._environ.get("SKYPILOT_API_SERVER_LOCAL_PORT")
        return _configured(self.home) or (LOCAL if port is None else f"http://127.0.0.1:{port}")

    def require_answer(self) -> None:
        """Raises Unreachable unless the API server says that it is well. Starts none."""
        url = self.url()
        if not url.startswith(("http://", "https://")):
            raise Refused(f"{url!r} is no address of a SkyPilot API server")
        try:
            with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:  # noqa: S310
                said = json.loads(answer.read()).get("status")
        except urllib.error.HTTPError as error:
            if error.code in {401, 403}:
                raise CredentialsMissing(
                    f"the SkyPilot API server at {url} wants a login", hint=LOGIN
                ) from error
            said = f"error {error.code}"
        except (OSError, ValueError) as error:
            raise Unreachable(f"no SkyPilot API server answers at {url}", hint=START) from error
        if said != "healthy":
            raise Unreachable(f"the SkyPilot API server at {url} says: {said}", hint=AGAIN)

    def await_answer(self) -> None:
        """The same, through a silence: a run that is under way is not lost to a restart of it."""
        _patiently(self.require_answer, _SHORT_S)

    # ── what can be had ───────────────────────────────────────────────────────────────────────

    def enabled_clouds(self) -> list[str]:
        """The clouds that `sky check` last found to be usable; empty when it never ran."""
        from sky.client import sdk

        with translated():
            return [str(name) for name in self.sdk.get(sdk.enabled_clouds())]

    def considered(self, task: Any) -> list[Considered]:
        """What SkyPilot's optimizer would take for a task, the best of each cloud, cheapest first.

        Its answer is a table for people: it is read as one. Empty where nothing fits.
        Raises Unreachable when no table comes: that nothing is said is not that nothing fits.
        """
        for _ in range(_READS):
            # It comes with the server's log of the request, which may lag behind the answer.
            table = io.StringIO()
            try:
                with translated():
                    dag = self.sdk.Dag()
                    dag.add(task)
                    self.sdk.stream_and_get(self.sdk.optimize(dag), output_stream=table)
            except NoCapacity:
                return []
            if found := list(_table(table.getvalue())):
                return sorted(found, key=lambda one: one.cost)
        raise Unreachable("SkyPilot's optimizer does not say what it considered", hint=AGAIN)

    # ── clusters ──────────────────────────────────────────────────────────────────────────────

    def clusters(self, name: str | None = None, *, refresh: bool = False) -> list[Row]:
        """Our clusters, or the one of that name, whoever made them.

        refresh  ask the cloud as well, not only the server's own list
        """
        self.require_answer()
        sky = self.sdk
        how = sky.StatusRefreshMode.FORCE if refresh else sky.StatusRefreshMode.NONE
        with translated():
            names = None if name is None else [name]
            found = sky.get(sky.status(names, refresh=how, all_users=True))
        rows = [_row(one) for one in found]
        return [row for row in rows if (row.name == name if name else row.name.startswith(PREFIX))]

    def made(self, name: str) -> Row | None:
        """A cluster that was just asked for, through a silence of the server."""
        return next(iter(_patiently(lambda: self.clusters(name), _SHORT_S)), None)

    def launch(self, task: Any, name: str, *, idle_minutes: int) -> str:
        """Ask for a cluster that takes itself down when idle; the request's id."""

        def ask() -> str:
            # It greets with a line for a person at its own command line.
            with contextlib.redirect_stdout(io.StringIO()):
                asked = self.sdk.launch(
                    task, cluster_name=name, idle_minutes_to_autostop=idle_minutes, down=True
                )
            return str(asked)

        # Asked for twice, a cluster of one name is made once.
        return _patiently(ask, _SHORT_S)

    def answer(self, request: str) -> Any:
        """What a request came to; waited for, also through a silence of the server."""
        return _patiently(lambda: self.sdk.get(request))

    def at_work(self, name: str) -> list[str]:
        """The ids of requests about a cluster that are not over: it may still be made."""
        with translated():
            found = self.sdk.api_status(cluster_name=name)
        return [str(one.request_id) for one in found]

    def cancel_requests(self, name: str) -> None:
        """Ask for the end of all that is still done about a cluster."""
        if asked := self.at_work(name):
            with translated():
                self.sdk.get(self.sdk.api_cancel(asked, silent=True))

    def execute(self, task: Any, name: str) -> int:
        """Run a task on a cluster; its job's number there.

        After a lost answer it is asked for again: the task must bear to be run twice.
        """
        ask = self.sdk.exec
        number, _ = _patiently(lambda: self.sdk.get(ask(task, cluster_name=name)), _SHORT_S)
        return int(number)

    def cancel(self, name: str, number: int) -> None:
        """End a job on a cluster."""
        with translated():
            self.sdk.get(self.sdk.cancel(name, job_ids=[number]))

    def job_status(self, name: str, number: int) -> str:
        """What SkyPilot says of a job: a hint, not the verdict."""
        with translated():
            found = self.sdk.get(self.sdk.job_status(name, job_ids=[number]))
        status = found.get(number)
        return "" if status is None else str(status.value)

    def autostop(self, name: str, idle_minutes: int) -> None:
        """Set when an idle cluster takes itself down."""
        with translated():
            self.sdk.get(self.sdk.autostop(name, idle_minutes=idle_minutes, down=True))

    def down(self, name: str) -> None:
        """Take a cluster down; one that is not there is well."""
        try:
            with translated():
                self.sdk.get(self.sdk.down(name))
        except Lost:
            return


def _row(record: Any) -> Row:
    one = record if isinstance(record, Mapping) else record.model_dump()
    gpu, count = _accelerators(one.get("accelerators"))
    return Row(
        gpu=gpu,
        count=count,
        name=str(one["name"]),
        status=str(getattr(one["status"], "value", one["status"])),
        cloud=str(one.get("cloud") or ""),
        region=str(one.get("region") or ""),
        autostop=-1 if one.get("autostop") is None else int(one["autostop"]),
        down=bool(one.get("to_down")),
        launched_at=int(one.get("launched_at") or 0),
        nodes=int(one.get("nodes") or 1),
    )


def _table(text: str) -> Iterator[Considered]:
    """The rows of the optimizer's table; a line that is none is passed over.

    INFRA             INSTANCE   vCPUs   Mem(GB)   GPUS     COST ($)   CHOSEN
    Slurm (tiny)      -          4       16        H100:1   2.50          ✔
    """
    columns: list[str] = []
    for line in plain(text).splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if cells[0] == "INFRA" and "COST ($)" in cells:
            columns = cells
        elif columns and len(cells) >= len(columns) - 1:
            row = dict(zip(columns, cells, strict=False))
            with contextlib.suppress(KeyError, ValueError, InvalidOperation):
                yield _considered(row)


def _considered(row: Mapping[str, str]) -> Considered:
    cloud, _, region = row["INFRA"].partition(" (")
    gpu, _, count = row["GPUS"].partition(":")
    none = gpu in {"", "-"}
    return Considered(
        cloud=cloud,
        region=region.rstrip(")"),
        cpus=None if row["vCPUs"] == "-" else int(float(row["vCPUs"])),
        memory_gib=None if row["Mem(GB)"] == "-" else float(row["Mem(GB)"]),
        gpu=None if none else gpu,
        count=0 if none else int(float(count or 1)),
        cost=Decimal(row["COST ($)"]),
    )


def _configured(home: Path) -> str:
    """The server that `sky api login` wrote down, without importing the SDK (it takes seconds)."""
    try:
        lines = (home / ".sky" / "config.yaml").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    inside = False
    for line in lines:
        if line and not line[0].isspace():
            inside = line.split("#")[0].strip() == "api_server:"
        elif inside and line.strip().startswith("endpoint:"):
            return line.split(":", 1)[1].strip().strip("'\"").rstrip("/")
    return ""


def _patiently(ask: Callable[[], T], patience_s: float = _PATIENCE_S) -> T:
    """What is asked for, through a silence of the server. Raises Unreachable after it."""
    end = time.monotonic() + patience_s
    while True:
        try:
            with translated():
                return ask()
        except Unreachable:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)
