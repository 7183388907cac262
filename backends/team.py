"""The nodes of one job: what their runners tell each other while it runs.

One file on the standard library, for Python 3.9 and later. It lies beside `runner.py` in the run
directories of a job of several nodes, and the runner loads it there. Like the runner it knows no
trainer, and no provider: which node this is, where the first one is, and the secret word of the
job come in as variables:

    FTLAUNCH_NODE_RANK       0 for the first node
    FTLAUNCH_NODE_ADDRESSES  of all nodes, in order of rank, between spaces or line ends
    FTLAUNCH_TEAM_TOKEN      known to the nodes of this job and to nobody else

Every other node connects to the first one, and each proves to the other that it knows the token.
Then both send JSON objects, one a line:

    to the first   {"log": text}  {"ready": step, "since": checkpoint}  {"done": step}
                   {"over": verdict, "own": bool}
    from it        {"go": step, "port": number}  {"end": order}
    both           {} now and then, as a sign of life

A step begins on all nodes when all are ready for it, and is over when it is over on all. What ends
one node ends all. The disks of the nodes are their own: nothing is asked of a shared one. So a
later attempt is one only where each node has the checkpoint that the first goes on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import random
import selectors
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional

RANK, ADDRESSES, TOKEN = "FTLAUNCH_NODE_RANK", "FTLAUNCH_NODE_ADDRESSES", "FTLAUNCH_TEAM_TOKEN"
JOIN_S = float(os.environ.get("FTLAUNCH_TEAM_JOIN_S", "600"))
"""How long nodes are waited for: a provider may start one minutes after another."""
SILENCE_S = float(os.environ.get("FTLAUNCH_TEAM_SILENCE_S", "90"))
"""A node that says nothing for so long is gone: its machine, or the network to it."""
LIFE_S = 5.0
AGAIN_S = 0.5
PORTS = 8
FIRST_PORT, LAST_PORT = 20000, 29999  # below what systems give to outgoing connections
PENDING_BYTES = 8 << 20
READS = 32
LOST_CODE = 70

Message = Dict[str, Any]


class TeamError(Exception):
    """There can be no team; the message is a sentence."""


class Order(NamedTuple):
    """Why this node must end, as another one says. Nobody gives a code for what is no failure."""

    phase: str
    reason: str
    code: Optional[int]
    grace_s: Optional[float]


class Said(NamedTuple):
    """A line of another node's log."""

    name: str
    text: str


def name_of(rank: int) -> str:
    """What a node is called in the log and in verdicts."""
    return "node%d" % rank


def join(count: int) -> "Team":
    """The team of the job, as the environment says. The token is taken out of it.

    Raises TeamError when the environment does not say enough.
    """
    token = os.environ.pop(TOKEN, "")
    addresses = os.environ.get(ADDRESSES, "").split()
    try:
        rank = int(os.environ.get(RANK, ""))
    except ValueError:
        raise TeamError("nothing says which of the %d nodes this is" % count) from None
    if not token or len(addresses) < count or not 0 <= rank < count:
        raise TeamError(
            "this is node %d of %d, and %d addresses are known" % (rank, count, len(addresses))
        )
    if rank:
        return Other(rank, count, addresses[0], token)
    return First(count, addresses[0], token)


def ports_of(token: str) -> List[int]:
    """Where the first node may listen: the same for all who know the token."""
    drawn = random.Random(hashlib.sha256(token.encode()).digest())  # noqa: S311
    return drawn.sample(range(FIRST_PORT, LAST_PORT + 1), PORTS)


def proof(token: str, who: str, nonce: str) -> str:
    """Shows that one knows the token, without telling it."""
    return hmac.new(token.encode(), ("%s %s" % (who, nonce)).encode(), hashlib.sha256).hexdigest()


def free_port(address: str) -> int:
    """A port on which nobody listens now."""
    with listening(address, 0) as door:
        return int(door.getsockname()[1])


def listening(address: str, port: int) -> socket.socket:
    """A door at an address of this machine; at all of them where it is known by none of its own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for at in (address, ""):
        door = socket.socket(family, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((at, port))
        except OSError:
            door.close()
            if not at:
                raise
        else:
            return door
    raise AssertionError


class Wire:
    """A connection to another node that never makes its owner wait."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.rank: Optional[int] = None
        self.nonce = os.urandom(16).hex()
        self.closed = False
        self.heard_at = self.told_at = time.monotonic()
        self.left_out = 0
        self._in = b""
        self._out = bytearray()

    def send(self, message: Message) -> None:
        """Say something; what the other side does not take yet waits."""
        self._out += json.dumps(message).encode("ascii") + b"\n"
        self.told_at = time.monotonic()
        self.flush()

    def say(self, text: str) -> None:
        """Pass a line of the log on; one for which a slow network leaves no room is counted."""
        if len(self._out) > PENDING_BYTES:
            self.left_out += 1
            return
        if self.left_out:
            told, self.left_out = "[runner] %d lines are left out here" % self.left_out, 0
            self.send({"log": told})
        self.send({"log": text})

    def flush(self) -> None:
        """Write what the other side takes."""
        try:
            while self._out and not self.closed:
                del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()

    @property
    def waits(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._out) and not self.closed

    def received(self) -> List[Message]:
        """What has come in since."""
        now = time.monotonic()
        if now - self.told_at > LIFE_S:
            self.send({})
        self.flush()
        ended = False
        try:
            for _ in range(READS if not self.closed else 0):  # a flood must not keep us here
                data = self.socket.recv(1 << 18)
                ended = not data
                if ended:
                    break
                self._in += data
                self.heard_at = now
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            ended = True
        whole, newline, rest = self._in.rpartition(b"\n")
        self._in = rest
        if ended or len(rest) > PENDING_BYTES:
            self.close()
        return [one for one in map(parsed, whole.split(b"\n") if newline else []) if one]

    def close(self) -> None:
        """Let go of it."""
        self.closed = True
        self.socket.close()


def parsed(raw: bytes) -> Message:
    """A message; an empty one for what is none."""
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Team:
    """What the runner asks of it, whichever node it is on. Nothing of it waits, but `leave`."""

    def __init__(self, rank: int, count: int, address: str, token: str) -> None:
        self.rank = rank
        self.count = count
        self.name = name_of(rank)
        self.address = address
        self._token = token
        self._began = time.monotonic()

    def tick(self) -> "List[Any]":
        """Do what is due; the `Said` and `Order`s that have come."""
        raise NotImplementedError

    def ready(self, step: str, since: str = "") -> bool:
        """This node could begin a step, from a checkpoint; whether all could, so that it begins."""
        raise NotImplementedError

    def done(self, step: str) -> bool:
        """This node has done a step; whether it need wait for no other."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """A line of this node's log."""

    def end(self, phase: str, reason: str, code: Optional[int], grace_s: Optional[float]) -> None:
        """Tell the others to end, once; later only to do it sooner."""

    def parted(self) -> bool:
        """Whether every other node has given its verdict, or is gone."""
        return True

    def rows(self) -> List[Message]:
        """How the nodes stand, for `state.json`; none where this one does not know."""
        return []

    def fact(self, what: str) -> str:
        """What a command is told of its node: rank, address (of the first), port (there)."""
        return {"rank": str(self.rank), "address": self.address, "port": str(self.port)}[what]

    @property
    def port(self) -> int:
        """Free on the first node for what a step's processes tell each other."""
        raise NotImplementedError

    def leave(self, phase: str, code: Optional[int], reason: str, *, own: bool) -> None:
        """This node's verdict; `own` when it was not another one's order."""


class First(Team):
    """The node that the others connect to, which decides."""

    def __init__(self, count: int, address: str, token: str) -> None:
        super().__init__(0, count, address, token)
        self._door = self._opened()
        self._port = 0
        self._strangers: List[Wire] = []
        self._wires: Dict[int, Wire] = {}
        self._ready: Dict[int, Message] = {}
        self._done: Dict[int, str] = {}
        self._over: Dict[int, Message] = {}
        self._hosts: Dict[int, str] = {0: socket.gethostname()}
        self._going = ""
        self._told: Optional[Message] = None
        self._late = False
        self._apart: List[Order] = []

    def _opened(self) -> socket.socket:
        problem: Optional[OSError] = None
        for port in ports_of(self._token):
            try:
                door = listening(self.address, port)
                door.listen(64)
                door.setblocking(False)
            except OSError as error:
                problem = error
            else:
                return door
        raise TeamError("the first node cannot listen for the others: %s" % problem)

    @property
    def port(self) -> int:
        """See `Team`."""
        return self._port

    def tick(self) -> List[Any]:
        """See `Team`."""
        self._let_in()
        found: List[Any] = [self._apart.pop()] if self._apart else []
        for wire in list(self._strangers):
            self._greet(wire)
        for rank, wire in sorted(self._wires.items()):
            for message in wire.received():
                found += self._heard(rank, message)
            silent = time.monotonic() - wire.heard_at > SILENCE_S
            if (wire.closed or silent) and rank not in self._over:
                why = "the connection to it broke" if wire.closed else "it is silent"
                wire.close()
                found.append(self._gone(rank, "is gone: %s" % why))
        missing = [rank for rank in range(1, self.count) if rank not in self._wires]
        if missing and not self._late and time.monotonic() - self._began > JOIN_S:
            self._late = True
            for rank in missing:
                found.append(self._gone(rank, "did not come within %g s" % JOIN_S))
        return found

    def _let_in(self) -> None:
        while True:
            try:
                connected, _ = self._door.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return
            wire = Wire(connected)
            wire.send({"nonce": wire.nonce})
            self._strangers.append(wire)

    def _greet(self, wire: Wire) -> None:
        """Whoever knows the token is a node; whoever does not is sent away."""
        for message in wire.received():
            rank = message.get("hello")
            if not isinstance(rank, int) or not 0 < rank < self.count or rank in self._wires:
                wire.close()
                break
            wanted = proof(self._token, name_of(rank), wire.nonce)
            if not hmac.compare_digest(wanted, str(message.get("proof"))):
                wire.close()
                break
            wire.send({"welcome": proof(self._token, "first", str(message.get("nonce")))})
            self._hosts[rank] = str(message.get("host", ""))
            self._wires[rank] = wire
            self._strangers.remove(wire)
            if self._told is not None:
                wire.send(self._told)
            return
        if wire.closed or time.monotonic() - wire.heard_at > SILENCE_S:
            wire.close()
            self._strangers.remove(wire)

    def _heard(self, rank: int, message: Message) -> List[Any]:
        if "log" in message:
            return [Said(name_of(rank), str(message["log"]))]
        if "ready" in message:
            self._ready[rank] = message
        if "done" in message:
            self._done[rank] = str(message["done"])
        if "over" not in message:
            return []
        self._over[rank] = verdict = dict(message["over"])
        if verdict.get("phase") == "succeeded" or not message.get("own"):
            return []
        code = verdict.get("exit_code")
        reason = "%s: %s" % (self._called(rank), verdict.get("reason") or verdict.get("phase"))
        return [Order(str(verdict.get("phase")), reason, code, None)]

    def _gone(self, rank: int, why: str) -> Order:
        self._over[rank] = {"phase": "lost", "exit_code": None, "reason": why}
        return Order("failed", "%s %s" % (self._called(rank), why), LOST_CODE, None)

    def _called(self, rank: int) -> str:
        host = self._hosts.get(rank)
        return "%s (%s)" % (name_of(rank), host) if host else name_of(rank)

    def ready(self, step: str, since: str = "") -> bool:
        """See `Team`."""
        if self._going == step:
            return True
        others = [self._ready.get(rank, {}) for rank in range(1, self.count)]
        if any(other.get("ready") != step for other in others):
            return False
        for rank, other in enumerate(others, 1):
            if other.get("since") != since and not self._apart:
                theirs = other.get("since") or "the beginning"
                told = (self._called(rank), theirs, since or "the beginning")
                reason = "%s would go on from %s, and node0 from %s" % told
                self._apart.append(Order("failed", reason, LOST_CODE, None))
        if self._apart:
            return False
        self._going, self._port = step, free_port(self.address)
        for wire in self._wires.values():
            wire.send({"go": step, "port": self._port})
        return True

    def done(self, step: str) -> bool:
        """See `Team`."""
        return all(self._done.get(rank) == step for rank in range(1, self.count))

    def end(self, phase: str, reason: str, code: Optional[int], grace_s: Optional[float]) -> None:
        """See `Team`."""
        before = self._told
        if before is not None and grace_s is None:
            return
        order = {"phase": phase, "reason": reason, "exit_code": code, "grace_s": grace_s}
        self._told = {"end": order}
        for rank, wire in self._wires.items():
            if rank not in self._over and not wire.closed:
                wire.send(self._told)

    def parted(self) -> bool:
        """See `Team`."""
        return all(rank in self._over for rank in self._wires)

    def rows(self) -> List[Message]:
        """See `Team`."""
        return [
            {
                "name": name_of(rank),
                "host": self._hosts.get(rank),
                "phase": self._over.get(rank, {}).get("phase", self._standing(rank)),
                "exit_code": self._over.get(rank, {}).get("exit_code"),
                "reason": self._over.get(rank, {}).get("reason", ""),
            }
            for rank in range(self.count)
        ]

    def _standing(self, rank: int) -> str:
        return "running" if rank == 0 or rank in self._wires else "starting"

    def leave(self, phase: str, code: Optional[int], reason: str, *, own: bool) -> None:
        """See `Team`."""
        del own
        self._over[0] = {"phase": phase, "exit_code": code, "reason": reason}
        for wire in [*self._wires.values(), *self._strangers]:
            flushed(wire)
            wire.close()
        self._door.close()


class Other(Team):
    """A node that does as the first one does."""

    def __init__(self, rank: int, count: int, address: str, token: str) -> None:
        super().__init__(rank, count, address, token)
        self._ports = ports_of(token)
        self._tried_at = -AGAIN_S
        self._trying = 0
        self._wire: Optional[Wire] = None
        self._known = False
        self._nonce = os.urandom(16).hex()
        self._early: List[Message] = []
        self._going = ""
        self._port = 0
        self._asked = ""
        self._ended = False

    @property
    def port(self) -> int:
        """See `Team`."""
        return self._port

    def tick(self) -> List[Any]:
        """See `Team`."""
        if not self._known:
            self._find()
        if self._wire is None:
            return self._without("did not answer", JOIN_S, self._began)
        found: List[Any] = []
        wire = self._wire
        for message in wire.received():
            found += self._heard(wire, message)
        if not self._known:
            if wire.closed or time.monotonic() - wire.heard_at > LIFE_S:
                wire.close()
                self._wire = None  # somebody else's door: the next one
            return found + self._without("did not answer", JOIN_S, self._began)
        if wire.closed:
            found += self._without("is gone", 0.0, wire.heard_at)
        return found + self._without("is silent", SILENCE_S, wire.heard_at)

    def _without(self, why: str, longest: float, since: float) -> List[Any]:
        if self._ended or time.monotonic() - since <= longest:
            return []
        self._ended = True
        return [Order("failed", "the first node (%s) %s" % (self.address, why), LOST_CODE, None)]

    def _find(self) -> None:
        """Try the ports one after the other: on some of them a stranger may listen."""
        now = time.monotonic()
        if self._wire is not None or now - self._tried_at < AGAIN_S / PORTS:
            return
        self._tried_at = now
        port = self._ports[self._trying % PORTS]
        self._trying += 1
        try:
            self._wire = Wire(socket.create_connection((self.address, port), timeout=AGAIN_S))
        except OSError:
            self._wire = None

    def _heard(self, wire: Wire, message: Message) -> List[Any]:
        if "nonce" in message and not self._known:
            told = proof(self._token, self.name, str(message["nonce"]))
            host = socket.gethostname()
            wire.send({"hello": self.rank, "host": host, "proof": told, "nonce": self._nonce})
        elif "welcome" in message:
            wanted = proof(self._token, "first", self._nonce)
            self._known = hmac.compare_digest(wanted, str(message["welcome"]))
            if not self._known:
                wire.close()
            for one in self._early if self._known else ():
                wire.send(one)
            self._early = []
        elif not self._known:
            wire.close()
        elif "go" in message:
            self._going, self._port = str(message["go"]), int(message["port"])
        elif "end" in message:
            order = message["end"]
            return [Order(order["phase"], str(order["reason"]), None, order["grace_s"])]
        return []

    def _tell(self, message: Message) -> None:
        if self._known and self._wire is not None:
            self._wire.send(message)
        else:
            self._early.append(message)

    def ready(self, step: str, since: str = "") -> bool:
        """See `Team`."""
        if self._asked != step:
            self._asked = step
            self._tell({"ready": step, "since": since})
        return self._going == step

    def done(self, step: str) -> bool:
        """See `Team`."""
        self._tell({"done": step})
        return True

    def say(self, text: str) -> None:
        """See `Team`."""
        if self._known and self._wire is not None:
            self._wire.say(text)
        elif len(self._early) < 10000:
            self._early.append({"log": text})

    def leave(self, phase: str, code: Optional[int], reason: str, *, own: bool) -> None:
        """See `Team`."""
        verdict = {"phase": phase, "exit_code": code, "reason": reason}
        self._tell({"over": verdict, "own": own and not self._ended})
        if self._wire is not None:
            flushed(self._wire)
            heard_out(self._wire)


def flushed(wire: Wire, longest: float = 5.0) -> None:
    """Wait until what was said is on its way; not for ever."""
    until = time.monotonic() + longest
    with selectors.SelectSelector() as selector:
        if not wire.closed:
            selector.register(wire.socket, selectors.EVENT_WRITE)
        while wire.waits and time.monotonic() < until:
            selector.select(0.1)
            wire.flush()


def heard_out(wire: Wire, longest: float = 5.0) -> None:
    """Close a wire so that what was said last still arrives: a reset would take it back."""
    until = time.monotonic() + longest
    with contextlib.suppress(OSError):
        wire.socket.shutdown(socket.SHUT_WR)
    while not wire.closed and time.monotonic() < until:
        wire.received()
        time.sleep(0.02)
    wire.close()
