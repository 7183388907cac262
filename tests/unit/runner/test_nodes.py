"""Several nodes run one job: each step on all together, one log, one verdict."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

import pytest
from runner_rig import check_numbers, is_alive, step
from team_rig import Nodes, shown

from backends import team

SAYS = """
import os, sys
print("rank", os.environ["FTLAUNCH_NODE_RANK"], *sys.argv[1:], flush=True)
"""
HANGS = """
import os, pathlib, time
pathlib.Path("output").mkdir(exist_ok=True)
pathlib.Path("output/here").write_text(str(os.getpid()))
print("loss: 1.5", flush=True)
time.sleep(600)
"""
ONE_FAILS = """
import os, sys, time
if os.environ["FTLAUNCH_NODE_RANK"] == "1":
    print("it breaks", flush=True)
    sys.exit(7)
time.sleep(600)
"""
FACTS = [{"node": what} for what in ("rank", "address", "port")]


def facts(name: str = "only") -> dict[str, Any]:
    return {"name": name, "argv": [sys.executable, "-c", SAYS, *FACTS]}


def test_each_step_runs_on_all_nodes_and_is_told_what_differs(nodes: Nodes) -> None:
    state = nodes.plan(facts("first"), facts("second")).run()
    assert (state["phase"], state["exit_code"]) == ("succeeded", 0), state
    ports = []
    for name in ("first", "second"):
        texts = nodes.first.texts(name)
        (zero,) = (text for text in texts if text.startswith("[node0] rank 0"))
        (one,) = (text for text in texts if text.startswith("[node1] rank 1"))
        *_, said, address, port = zero.split()
        assert (said, address) == ("0", "127.0.0.1")
        assert one.split()[-3:] == ["1", address, port]
        ports.append(port)
        assert [line.split()[1] for line in nodes.rigs[1].texts(name)] == ["1"]
    assert ports[0] != ports[1]
    check_numbers([*nodes.first.lines("first"), *nodes.first.lines("second")])
    assert [row["phase"] for row in state["nodes"]] == ["succeeded"] * 2
    assert [row["name"] for row in state["nodes"]] == ["node0", "node1"]
    assert state["nodes"][1]["host"] == socket.gethostname()


def test_no_step_begins_before_all_nodes_are_ready_for_it(nodes: Nodes) -> None:
    nodes.plan(facts()).start(0)
    nodes.first.until("waiting", lambda: nodes.first.ask("status").get("step") == "only" or None)
    assert nodes.first.state()["nodes"][1]["phase"] == "starting"
    assert nodes.first.texts(ended=False) == []
    nodes.start(1)
    assert nodes.codes() == [0, 0]
    assert nodes.first.state()["phase"] == "succeeded"


def test_a_step_is_over_when_it_is_over_on_all(nodes: Nodes) -> None:
    late = """
import os, time
if os.environ["FTLAUNCH_NODE_RANK"] == "1":
    time.sleep(1)
    print("late", flush=True)
"""
    nodes.plan(step(late), step("print('next', flush=True)", name="next")).run()
    assert nodes.first.texts() == ["[node1] late"]
    first, second = nodes.first.lines(), nodes.first.lines("next")
    assert first[-1].seq < second[0].seq


def test_the_metrics_are_those_of_the_first_node_alone(nodes: Nodes) -> None:
    said = "import os; print('loss:', 1 + int(os.environ['FTLAUNCH_NODE_RANK']), flush=True)"
    state = nodes.plan(step(said), metrics=[r"^loss: (?P<loss>[0-9.]+)"]).run()
    assert [row["loss"] for row in nodes.first.metrics()] == [1]
    assert state["last_metrics"] == {"loss": 1}


def test_one_node_fails_and_the_run_ends_on_all(nodes: Nodes) -> None:
    nodes.plan(step(ONE_FAILS), step(SAYS, name="never")).start()
    assert nodes.codes() == [7, 0], "the first one tells how the job ended, the others nothing"
    state = nodes.first.state()
    assert (state["phase"], state["exit_code"]) == ("failed", 7)
    assert state["reason"].startswith(f"{shown(1)}: step only exited with code 7"), state
    assert [(row["phase"], row["exit_code"]) for row in state["nodes"]] == [
        ("failed", 7),
        ("failed", 7),
    ]
    assert "[node1] it breaks" in nodes.first.texts()
    assert not (nodes.first.folder / "logs" / "never").exists()


def test_the_first_node_fails_and_the_run_ends_on_all(nodes: Nodes) -> None:
    fails = ONE_FAILS.replace('== "1"', '== "0"')
    nodes.plan(step(fails)).start()
    assert nodes.codes() == [7, 0]
    state = nodes.first.state()
    assert state["reason"].startswith("node0: step only exited with code 7"), state
    assert nodes.rigs[1].state()["phase"] == "failed"
    assert nodes.rigs[1].state()["reason"].startswith("node0: step only exited with code 7")


def test_nodes_that_fail_together_are_all_named_and_the_first_heard_of_decides(
    nodes: Nodes,
) -> None:
    """As torch has it: who loses a member fails as well, and ends perhaps before that one."""
    both = """
import os, sys, time
rank = int(os.environ["FTLAUNCH_NODE_RANK"])
time.sleep(rank)
sys.exit(3 + rank)
"""
    state = nodes.plan(step(both)).run()
    assert (state["phase"], state["exit_code"]) == ("failed", 3)
    assert state["reason"] == (
        f"node0: step only exited with code 3; {shown(1)}: step only exited with code 4"
    )
    assert [row["exit_code"] for row in state["nodes"]] == [3, 4]


@pytest.mark.parametrize("grace", ["20", "0"])
def test_a_stop_reaches_all_nodes(nodes: Nodes, grace: str) -> None:
    nodes.plan(step(HANGS), stop={"interrupt_s": 20, "steps": ["only"]}).start()
    pids = [int(rig.until_there("output/here").read_text() or 0) for rig in nodes.rigs]
    nodes.first.ask("stop", "--grace", grace)
    assert nodes.codes() == [130, 0]
    for rig in nodes.rigs:
        assert rig.state()["phase"] == "stopped", rig.state()
    assert [row["phase"] for row in nodes.first.state()["nodes"]] == ["stopped", "stopped"]
    assert not any(is_alive(pid) for pid in pids if pid)


def test_a_checkpoint_is_the_first_nodes_affair_before_anybody_is_interrupted(
    nodes: Nodes,
) -> None:
    """Only the first trainer looks for the request; the others must be there while it saves."""
    saves = """
import os, pathlib, signal, sys, time
rank = os.environ["FTLAUNCH_NODE_RANK"]
there = pathlib.Path("output"); there.mkdir(exist_ok=True)
signal.signal(signal.SIGINT, lambda *_: (print("interrupted", (there / "ck").exists(), flush=True),
                                         sys.exit(0)))
(there / "here").touch()
while True:
    if rank == "0" and (there / "wanted").exists() and not (there / "ck").exists():
        (there / "ck").mkdir(); (there / "ck" / "all").write_text("x")
    time.sleep(0.01)
"""
    stop = {"touch": ["output/wanted"], "wait_s": 60, "interrupt_s": 20, "steps": ["only"]}
    rule = {"glob": "output/ck", "requires": [["all"]]}
    nodes.plan(step(saves), stop=stop, checkpoint=rule).start()
    for rig in nodes.rigs:
        rig.until_there("output/here")
    nodes.first.ask("stop")
    nodes.codes()
    texts = nodes.first.texts()
    assert "[node0] interrupted True" in texts
    assert "[node1] interrupted False" in texts
    assert not (nodes.rigs[1].folder / "output" / "wanted").exists()
    assert nodes.first.state()["phase"] == "stopped"


def test_a_node_that_dies_ends_the_run(nodes: Nodes) -> None:
    nodes.plan(step(HANGS)).start()
    for rig in nodes.rigs:
        rig.until_there("output/here")
    os.kill(nodes.started[1].pid, signal.SIGKILL)
    assert nodes.codes()[0] == team.LOST_CODE
    state = nodes.first.state()
    assert state["phase"] == "failed"
    assert state["reason"].startswith(f"{shown(1)} is gone: the connection to it broke"), state
    assert state["nodes"][1]["phase"] == "lost"


def test_the_first_node_dies_and_the_others_do_not_go_on(nodes: Nodes) -> None:
    nodes.plan(step(HANGS)).start()
    for rig in nodes.rigs:
        rig.until_there("output/here")
    os.kill(nodes.started[0].pid, signal.SIGKILL)
    assert nodes.started[1].wait(120) == 0
    other = nodes.rigs[1].state()
    assert (other["phase"], other["exit_code"]) == ("failed", team.LOST_CODE)
    assert "the first node (127.0.0.1) is gone" in other["reason"]


def test_a_node_that_does_not_come_is_not_waited_for_for_ever(nodes: Nodes) -> None:
    nodes.first.env["FTLAUNCH_TEAM_JOIN_S"] = "1"
    nodes.plan(facts()).start(0)
    assert nodes.codes() == [team.LOST_CODE]
    assert nodes.first.state()["reason"].startswith("node1 did not come within 1 s")


def test_a_silent_node_is_gone(nodes: Nodes) -> None:
    nodes.first.env["FTLAUNCH_TEAM_SILENCE_S"] = "1.5"
    nodes.plan(step(HANGS)).start()
    for rig in nodes.rigs:
        rig.until_there("output/here")
    os.kill(nodes.started[1].pid, signal.SIGSTOP)
    assert nodes.started[0].wait(120) == team.LOST_CODE
    assert "is gone: it is silent" in nodes.first.state()["reason"]
    os.kill(nodes.started[1].pid, signal.SIGCONT)
    assert nodes.started[1].wait(120) == 0
    assert nodes.rigs[1].state()["phase"] == "failed"


def test_who_does_not_know_the_token_is_no_node(nodes: Nodes) -> None:
    nodes.rigs[1].env["FTLAUNCH_TEAM_TOKEN"] = "guessed"
    for rig in nodes.rigs:
        rig.env["FTLAUNCH_TEAM_JOIN_S"] = "2"
    nodes.plan(facts()).start()
    assert nodes.codes()[0] == team.LOST_CODE
    assert nodes.first.state()["reason"].startswith("node1 did not come")
    assert "did not answer" in nodes.rigs[1].state()["reason"]


def test_a_stranger_with_the_right_port_learns_nothing() -> None:
    first = team.First(2, "127.0.0.1", "the word")
    try:
        port = first._door.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            forged = {"hello": 1, "host": "evil", "proof": team.proof("no", "node1", "x")}
            stranger.sendall(json.dumps(forged).encode() + b"\n" + b'{"ready": "only"}\n')
            stranger.settimeout(10)
            heard = b""
            for _ in range(200):
                assert first.tick() == []
                try:
                    piece = stranger.recv(4096)
                except ConnectionResetError:
                    break
                heard += piece
                if not piece:
                    break
        assert set(json.loads(heard.splitlines()[0])) == {"nonce"}
        assert b"welcome" not in heard
        assert not first.ready("only")
    finally:
        first.leave("failed", 1, "", own=True)


def test_the_token_reaches_no_step_and_no_file(nodes: Nodes) -> None:
    token = nodes.first.env["FTLAUNCH_TEAM_TOKEN"]
    nodes.plan(step("import os; print(sorted(os.environ.items()), flush=True)")).run()
    for rig in nodes.rigs:
        for path in rig.folder.rglob("*"):
            assert not path.is_file() or token.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FTLAUNCH_NODE_RANK", "", "nothing says which of the 2 nodes this is"),
        ("FTLAUNCH_NODE_ADDRESSES", "127.0.0.1", "this is node 0 of 2, and 1 addresses are known"),
    ],
)
def test_an_environment_that_says_too_little(
    nodes: Nodes, variable: str, value: str, words: str
) -> None:
    nodes.first.env[variable] = value
    state = nodes.plan(facts()).first.run()
    assert (state["phase"], state["exit_code"], state["reason"]) == ("failed", 70, words)


def again(nodes: Nodes, *ranks: int) -> Nodes:
    """A first attempt that ended, and those nodes with its checkpoint; the second is begun."""
    shows = {**facts(), "again": [{"newest": True, "prefix": "--since="}]}
    rule = {"glob": "output/ck-*", "requires": [["all"]]}
    nodes.plan(shows, checkpoint=rule).run()
    for rank in ranks:
        for number in (9, 10):
            checkpoint = nodes.rigs[rank].folder / "output" / f"ck-{number}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "all").write_text("x")
    return nodes.start(arguments=["--attempt"])


def test_a_later_attempt_goes_on_from_the_checkpoint_that_all_nodes_have(nodes: Nodes) -> None:
    assert again(nodes, 0, 1).codes() == [0, 0]
    assert nodes.first.state()["attempt"] == 2
    for rank, rig in enumerate(nodes.rigs):
        (*_, said) = (t for t in nodes.first.texts() if t.startswith(f"[node{rank}] rank {rank}"))
        assert said.endswith(f"--since={rig.folder}/output/ck-10"), said
        assert f"[node{rank}] [runner] goes on from output/ck-10" in nodes.first.texts()


@pytest.mark.parametrize("has", [0, 1])
def test_nodes_that_would_go_on_from_different_places_do_not(nodes: Nodes, has: int) -> None:
    """Theirs would be two trainings that wait for each other, or mix."""
    assert again(nodes, has).codes() == [team.LOST_CODE, 0]
    state = nodes.first.state()
    places = ["output/ck-10", "the beginning"][:: 1 if has else -1]
    told = f"{shown(1)} would go on from {places[0]}, and node0 from {places[1]}"
    assert (state["phase"], state["reason"]) == ("failed", f"{told} before step only")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_address_may_be_of_either_kind(nodes: Nodes) -> None:
    for rig in nodes.rigs:
        rig.env["FTLAUNCH_NODE_ADDRESSES"] = "::1 ::1"
    assert nodes.plan(facts()).run()["phase"] == "succeeded"
    assert any(" ::1 " in text for text in nodes.first.texts())


def test_a_node_of_its_own_cannot_be_asked_which_it_is(nodes: Nodes) -> None:
    nodes.first.plan(facts())
    state = nodes.first.run()
    assert "a command of one node cannot ask which node it is on" in state["reason"]
