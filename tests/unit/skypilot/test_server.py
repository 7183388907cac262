"""What SkyPilot says, in our words: its tables, its settings, its errors."""

from __future__ import annotations

import importlib.util
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from backends.errors import CredentialsMissing, Lost, NoCapacity, NotLaunched, Refused, Unreachable
from backends.skypilot.errors import KINDS, _ours, as_launch_error, history
from backends.skypilot.records import Cluster
from backends.skypilot.server import LOCAL, Considered, Server, _table

TABLE = """\x1b[2mConsidered resources (1 node):\x1b[0m
------------------------------------------------------------------------------------
 INFRA               INSTANCE          vCPUs   Mem(GB)   GPUS        COST ($)   CHOSEN
------------------------------------------------------------------------------------
 RunPod (CA)         1x_H100_SECURE    16      80        H100:1      2.39       \x1b[32m   ✔\x1b[0m
 GCP (us-central1)   a3-highgpu-1g     26      234       H100:1      5.38
 Slurm (tiny)        -                 4       16        H100:1      2.50
 AWS (us-east-1)     m6i.large         2       8         -           0.10
------------------------------------------------------------------------------------
Multiple RunPod instances satisfy H100:1. (not a row)
"""


def test_the_optimizer_s_table_is_read_as_rows() -> None:
    rows = list(_table(TABLE))
    assert [(row.cloud, row.region, row.gpu, row.count) for row in rows] == [
        ("RunPod", "CA", "H100", 1),
        ("GCP", "us-central1", "H100", 1),
        ("Slurm", "tiny", "H100", 1),
        ("AWS", "us-east-1", None, 0),
    ]
    assert rows[2] == Considered("Slurm", "tiny", 4, 16.0, "H100", 1, Decimal("2.50"))


@pytest.mark.parametrize("text", ["", "nothing fits", TABLE.splitlines()[4], "INFRA  COST ($)\n x"])
def test_what_is_no_table_has_no_rows(text: str) -> None:
    assert list(_table(text)) == []


@pytest.mark.parametrize(
    ("environ", "config", "url"),
    [
        ({}, "", LOCAL),
        ({"SKYPILOT_API_SERVER_LOCAL_PORT": "4000"}, "", "http://127.0.0.1:4000"),
        ({}, "api_server:\n  endpoint: https://a.example/\n", "https://a.example"),
        ({}, "jobs:\n  endpoint: https://not.it\n", LOCAL),
        (
            {"SKYPILOT_API_SERVER_ENDPOINT": "https://b.example/"},
            "api_server:\n  endpoint: https://a.example\n",
            "https://b.example",
        ),
    ],
)
def test_which_server_is_asked(
    tmp_path: Path, environ: dict[str, str], config: str, url: str
) -> None:
    (tmp_path / ".sky").mkdir()
    (tmp_path / ".sky" / "config.yaml").write_text(config)
    assert Server({"HOME": str(tmp_path), **environ}).url() == url


def test_a_server_that_is_not_there_is_unreachable_and_is_not_started(tmp_path: Path) -> None:
    server = Server({"HOME": str(tmp_path), "SKYPILOT_API_SERVER_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(Unreachable, match="no SkyPilot API server answers") as raised:
        server.require_answer()
    assert "sky api start" in raised.value.hint


class _Well(BaseHTTPRequestHandler):
    """Says that it is well."""

    def do_GET(self) -> None:
        body = b'{"status": "healthy"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_run_that_is_under_way_waits_for_a_server_that_restarts(tmp_path: Path) -> None:
    made = HTTPServer(("127.0.0.1", 0), _Well, bind_and_activate=False)
    made.server_bind()  # the port is ours, and nobody listens there yet
    url = f"http://127.0.0.1:{made.server_address[1]}"
    server = Server({"HOME": str(tmp_path), "SKYPILOT_API_SERVER_ENDPOINT": url})
    with pytest.raises(Unreachable):
        server.require_answer()

    def begin() -> None:
        time.sleep(0.3)
        made.server_activate()
        made.handle_request()

    thread = threading.Thread(target=begin)
    thread.start()
    try:
        server.await_answer()
    finally:
        thread.join()
        made.server_close()


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    server = Server({"HOME": str(tmp_path), "SKYPILOT_API_SERVER_ENDPOINT": "file:///etc/passwd"})
    with pytest.raises(Refused, match="no address"):
        server.require_answer()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ApiServerConnectionError", Unreachable),
        ("ResourcesUnavailableError", NoCapacity),
        ("ClusterDoesNotExist", Lost),
        ("NoCloudAccessError", CredentialsMissing),
        ("APIVersionMismatchError", Refused),
        ("SomethingNew", NotLaunched),
    ],
)
def test_an_error_is_one_sentence_of_ours(name: str, kind: type[Exception]) -> None:
    made = type(name, (Exception,), {})("\x1b[31mIt is so.\x1b[0m\nAnd a page\nof more.")
    found = _ours(made)
    assert type(found) is kind
    assert found.message.endswith("It is so")
    assert "\n" not in found.message


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Failed to get request 7f3: 401 {'detail': 'no'}", CredentialsMissing),
        ("Failed to get request 7f3: 502 <html>", Unreachable),
        ("Failed to get request ID from SkyPilot API server at http://a:46580. ", Unreachable),
        ("Failed to process response from SkyPilot API server at u. Response: 302 ", Refused),
        ("No SkyPilot API server endpoint is configured, and starting a local", Unreachable),
        ("the task needs a run command", NotLaunched),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(words: str, kind: type[Exception]) -> None:
    found = _ours(RuntimeError(words))
    assert type(found) is kind
    assert found.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [(401, CredentialsMissing), (400, Refused), (404, Unreachable), (500, Unreachable)],
)
def test_a_code_that_the_http_library_raises(code: int, kind: type[Exception]) -> None:
    requests = pytest.importorskip("requests")
    reply = requests.Response()
    reply.status_code, reply.url = code, "http://a/status"
    with pytest.raises(requests.HTTPError) as raised:
        reply.raise_for_status()
    assert type(_ours(raised.value)) is kind


def test_an_answer_that_nobody_can_read() -> None:
    requests = pytest.importorskip("requests")
    assert type(_ours(requests.exceptions.JSONDecodeError("no", "<html>", 0))) is Unreachable


def test_every_error_that_is_named_is_one_that_skypilot_or_its_http_library_has() -> None:
    exceptions = pytest.importorskip("requests.exceptions")
    found = importlib.util.find_spec("sky")
    assert found is not None
    text = Path(str(found.origin)).with_name("exceptions.py").read_text()
    for name in KINDS:
        assert f"class {name}(" in text or hasattr(exceptions, name), name


def full(words: str, *tried: Exception) -> Exception:
    made: Exception = type("ResourcesUnavailableError", (Exception,), {})(words)
    made.failover_history = list(tried)  # type: ignore[attr-defined]
    return made


ROOM = full("Failed to acquire resources in all zones in us-east-1 for {AWS(L4:1)}. ")
UNSUPPORTED: Exception = type("ProvisionUnsupportedError", (Exception,), {})("no such disk")


@pytest.mark.parametrize(
    ("tried", "kind"),
    [
        ((), NoCapacity),
        ((ROOM,), NoCapacity),
        ((ROOM, UNSUPPORTED), NotLaunched),
        ((full("Failed on cloud AWS due to invalid cloud credentials: x"),), NotLaunched),
        ((full("Failed on cloud GCP due to invalid cloud config: x"),), NotLaunched),
        (
            (
                ROOM,
                full("\x1b[33mFound no quota for p5 spot instances in region a"),
            ),
            NotLaunched,
        ),
        ((full("Failed to acquire it in a.\nReason: AWS credentials expired"),), NotLaunched),
        ((PermissionError("not allowed"),), NotLaunched),
    ],
)
def test_only_a_lack_of_machines_is_one(
    tried: tuple[Exception, ...], kind: type[Exception]
) -> None:
    error = full("Reasons for provision failures (for details, see the log):", *tried)
    found = _ours(error)
    found.__cause__ = error
    assert type(found) is kind
    told = as_launch_error(found)
    assert isinstance(told, NotLaunched)
    for one in tried:
        assert str(one).splitlines()[0].split("\x1b[33m")[-1].strip().rstrip(".") in told.hint


def test_a_cluster_of_kubernetes_that_does_not_answer_is_not_full() -> None:
    silent = type("KubeAPIUnreachableError", (type(ROOM),), {})("no route")
    assert type(_ours(silent)) is Unreachable


def test_what_was_tried_is_told() -> None:
    error = NoCapacity("none")
    cause = Exception("all")
    cause.failover_history = [ValueError("no H100 in a"), ValueError("quota in b")]  # type: ignore[attr-defined]
    error.__cause__ = cause
    assert history(error) == ["no H100 in a", "quota in b"]


def test_a_cluster_that_was_made_elsewhere_costs_by_its_clock() -> None:
    assert Cluster(name="c", created_at="2026-01-01T00:00:00+00:00", cloud="Slurm").shared
    assert not Cluster(name="c", created_at="2026-01-01T00:00:00+00:00", cloud="AWS").shared
