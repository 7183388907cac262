"""How fast files go to a machine and back, against rsync, scp and tar over the same sshd.

    python -m benchmarks.transfer [CASE...]     all cases when none is named

An sshd of its own on 127.0.0.1; a delay is a proxy's, 100 ms each way. In every round each way
copies the same files to a fresh place, in turn, and every copy is checked by sha256. Whatever it
makes is in a temporary folder, and goes with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import Load
from benchmarks.measure import keep
from benchmarks.movers import Link, Mover, Ours, Rsync, Scp, Tar, missing
from benchmarks.support import SUPPORT, Sshd

NEAR_LIMIT = 1.11
"""At least 0.9 times as fast as the best of the peers."""
FAR_LIMIT = 0.5
"""At least twice as fast as each peer."""
UNCHANGED_LIMIT_S = 1.0
DELAY_S = 0.1
PEERS: tuple[Mover, ...] = (Rsync(), Scp(), Tar())
_OUR_CIPHER = ("-o", "Ciphers=^aes128-gcm@openssh.com")
WITH_OUR_CIPHER: tuple[Mover, ...] = (
    Rsync("rsync with our cipher", _OUR_CIPHER),
    Tar("tar with our cipher", _OUR_CIPHER),
)

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Scale:
    """How much is moved, and how often.

    far_big_bytes   the large file's size where there is a delay
    far_scp_files   as many of the small files does scp get there, once: it takes a second for each
    """

    big_bytes: int = 1 << 30
    files: int = 5000
    file_bytes: int = 16 << 10
    far_big_bytes: int = 100_000_000
    far_scp_files: int = 200
    rounds: int = 5
    far_rounds: int = 3


class Bench:
    """A machine, a way to it without delay and one with, and a folder for all that is moved."""

    def __init__(self, work: Path, machine: Sshd, far_port: int, scale: Scale) -> None:
        self.scale = scale
        self.near = Link(machine, machine.port)
        self.far = Link(machine, far_port)
        self._work = work
        self._arenas = 0
        self._loads: dict[tuple[int, int], Load] = {}

    def load(self, count: int, size_bytes: int) -> Load:
        """Files to move; made once."""
        key = (count, size_bytes)
        if key not in self._loads:
            folder = self._work / f"{count}x{size_bytes}"
            self._loads[key] = Load.new(folder, count, size_bytes)
        return self._loads[key]

    def timed(
        self, movers: Sequence[Mover], link: Link, load: Load, *, up: bool, rounds: int
    ) -> Times:
        """Seconds of each mover in each round. Another one begins each round."""
        times: Times = {mover.name: [] for mover in movers}
        for number in range(rounds):
            first = number % len(movers)
            for mover in (*movers[first:], *movers[:first]):
                target = self.arena() / "copy"
                began = time.perf_counter()
                (mover.up if up else mover.down)(link, load, target)
                times[mover.name].append(time.perf_counter() - began)
                load.check(target)
                if len(load.files) == 1:
                    shutil.rmtree(target)
        return times

    def arena(self) -> Path:
        """A fresh folder, when nothing of the ones before is still on its way to the disk.

        Many small files stay in theirs to the end: for minutes, ext4 searches past every inode that
        was freed when it makes a file, and 5,000 take anything from one second to six.
        """
        self._arenas += 1
        folder = self._work / f"arena-{self._arenas}"
        folder.mkdir()
        os.sync()
        return folder


def large(bench: Bench, *, up: bool) -> None:
    """One large file, no delay; the peers as they are, and for information with our cipher."""
    scale = bench.scale
    movers = (Ours(), *PEERS, *WITH_OUR_CIPHER)
    load = bench.load(1, scale.big_bytes)
    times = bench.timed(movers, bench.near, load, up=up, rounds=scale.rounds)
    told(f"{size(scale.big_bytes)} {way(up)}", times, NEAR_LIMIT)


def small(bench: Bench, *, up: bool) -> None:
    """Many small files, no delay."""
    scale = bench.scale
    load = bench.load(scale.files, scale.file_bytes)
    times = bench.timed((Ours(), *PEERS), bench.near, load, up=up, rounds=scale.rounds)
    told(f"{scale.files:,} files {way(up)}", times, NEAR_LIMIT)


def far_large(bench: Bench, *, up: bool) -> None:
    """One large file, with a delay."""
    scale = bench.scale
    load = bench.load(1, scale.far_big_bytes)
    times = bench.timed((Ours(), *PEERS), bench.far, load, up=up, rounds=scale.far_rounds)
    note = f"{size(scale.far_big_bytes)} instead of {size(scale.big_bytes)}"
    told(f"{size(scale.far_big_bytes)} {way(up)}, 200 ms", times, FAR_LIMIT, scaled=note)


def far_small(bench: Bench, *, up: bool) -> None:
    """Many small files, with a delay. scp gets a few of them, and its time is multiplied."""
    scale = bench.scale
    load = bench.load(scale.files, scale.file_bytes)
    movers = (Ours(), Rsync(), Tar())
    times = bench.timed(movers, bench.far, load, up=up, rounds=scale.far_rounds)
    few = bench.load(scale.far_scp_files, scale.file_bytes)
    once = bench.timed((Scp(),), bench.far, few, up=up, rounds=1)["scp"][0]
    factor = scale.files / scale.far_scp_files
    times["scp"] = [once * factor] * scale.far_rounds
    note = f"scp: one run of {scale.far_scp_files} files, {once:.1f} s, times {factor:g}"
    told(f"{scale.files:,} files {way(up)}, 200 ms", times, FAR_LIMIT, scaled=note)


def unchanged(bench: Bench, *, up: bool) -> None:
    """Many small files that are all in their places already, no delay."""
    scale = bench.scale
    load = bench.load(scale.files, scale.file_bytes)
    movers: tuple[Mover, ...] = (Ours(), Rsync())
    times: Times = {}
    for mover in movers:
        move = mover.up if up else mover.down
        copy = bench.arena() / "copy"
        move(bench.near, load, copy)
        before = {path: path.stat().st_ino for path in copy.rglob("*.bin")}
        times[mover.name] = []
        for _ in range(scale.rounds):
            began = time.perf_counter()
            move(bench.near, load, copy)
            times[mover.name].append(time.perf_counter() - began)
        load.check(copy)
        if before != {path: path.stat().st_ino for path in copy.rglob("*.bin")}:
            raise SystemExit(f"{mover.name} has copied files that had not changed")
    figures = {f"{name}_s": median(taken) for name, taken in times.items()}
    name = f"{scale.files:,} files {way(up)} again, unchanged, seconds"
    keep(name, {**figures, "runs": scale.rounds}, limit=UNCHANGED_LIMIT_S, value=figures["ours_s"])


def told(name: str, times: Times, limit: float, *, scaled: str = "nothing") -> None:
    """Keep what was measured: our time as a ratio to that of the best peer as people type it."""
    figures = compared(times)
    keep(name, {**figures, "scaled": scaled}, limit=limit, value=float(str(figures["ratio"])))


def compared(times: Times) -> Mapping[str, object]:
    """Our ratio to the best peer, by neighbours and by medians; and everybody's median seconds."""
    best = min((peer.name for peer in PEERS), key=lambda name: statistics.median(times[name]))
    ratios = [ours / peer for ours, peer in zip(times["ours"], times[best], strict=True)]
    # On a busy machine the two may differ: the worse one for us counts.
    ratio = max(
        statistics.median(ratios),
        statistics.median(times["ours"]) / statistics.median(times[best]),
    )
    return {
        "ratio": round(ratio, 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "best_peer": best,
        "times_as_fast": round(1 / ratio, 2),
        "runs": len(ratios),
        **{f"{name.replace(' ', '_')}_s": median(taken) for name, taken in times.items()},
    }


def median(values: Sequence[float]) -> float:
    """Rounded for people."""
    return round(statistics.median(values), 3)


def size(count: int) -> str:
    """A size as people say it."""
    if count % (1 << 30) == 0:
        return f"{count >> 30} GiB"
    return f"{count >> 20} MiB" if count % (1 << 20) == 0 else f"{count / 1e6:g} MB"


def way(up: bool) -> str:
    """The direction."""
    return "up" if up else "down"


CASES: Mapping[str, Callable[..., None]] = {
    "large": large,
    "small": small,
    "unchanged": unchanged,
    "far-large": far_large,
    "far-small": far_small,
}


@contextlib.contextmanager
def prepared(work: Path, scale: Scale) -> Iterator[Bench]:
    """The machine and the proxy; both end with the block."""
    home = work / "home"
    home.mkdir()
    # scp needs sftp, which an sshd has by default.
    with Sshd(work, home=home, extra="Subsystem sftp internal-sftp") as machine:
        argv = [sys.executable, str(SUPPORT / "delay_proxy.py"), str(machine.port), str(DELAY_S)]
        # A process of its own: what it does may not wait for what our threads do.
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as proxy:
            assert proxy.stdin is not None
            assert proxy.stdout is not None
            try:
                yield Bench(work, machine, int(proxy.stdout.readline()), scale)
            finally:
                proxy.stdin.close()


def main(names: Sequence[str]) -> None:
    """Measure the cases that are named, in both directions."""
    if why := missing():
        raise SystemExit(why)
    if unknown := set(names) - set(CASES):
        raise SystemExit(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder), Scale()) as bench:
        for name in names or CASES:
            for up in (True, False):
                CASES[name](bench, up=up)


if __name__ == "__main__":
    main(sys.argv[1:])
