"""How long a dry run over 50,000 offers takes, cold; beside `sky launch --dryrun`.

The offers are generated (seed 7) in the form of SkyPilot's own price lists, in a home of its own;
each is an instance type by itself, so that none can be left out. The recipe is `tiny`, and its
tokens are counted once, before the clock runs. SkyPilot gets the same lists and a token of nobody
for two clouds whose check asks no network; its API server is started before the clock runs, and
ended afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.measure import keep, ratio, seconds
from launcher.environment import cache_dir

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))
SKY = str(Path(sys.executable).with_name("sky"))
OFFERS, SEED = 50_000, 7
CLOUDS = ("vast", "hyperbolic", "lambda", "runpod", "aws")
KINDS = ("T4", "L4", "A10G", "V100", "L40S", "A100", "A100-80GB", "H100", "H200", "B200")
HEAD = (
    *("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "GpuInfo"),
    *("Price", "SpotPrice", "Region"),
)
SHARE_OF_SKY = 0.2
MOST_S = 1.0


def main() -> None:
    """Measure, and say on what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--without-sky", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        rows = generate(home)
        print(f"{rows:,} offers of a generated catalogue (seed {SEED}), not of real clouds")
        env = surroundings(home)
        counted(env)
        print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        ours = [FTLAUNCH, "estimate", "tiny"]
        took = sorted(cold(ours, env) for _ in range(asked.runs))
        wall, cpu = took[len(took) // 2]
        figures: dict[str, float | int | str] = {
            "wall_s": round(wall, 3),
            "lowest_s": round(took[0][0], 3),
            "cpu_s": round(cpu, 3),
            "offers": rows,
            "runs": asked.runs,
            "load": round(os.getloadavg()[0], 1),
        }
        keep("dry run, 50,000 offers, seconds", figures, limit=MOST_S, value=figures["wall_s"])  # type: ignore[arg-type]
        if not asked.without_sky and Path(SKY).exists():
            beside_sky(home, env, ours, runs=max(3, asked.runs // 2))


def generate(home: Path) -> int:
    """Write price lists of so many rows, each of another instance type."""
    chance = random.Random(SEED)
    for cloud in CLOUDS:
        folder = home / ".sky" / "catalogs" / "v8" / cloud
        folder.mkdir(parents=True)
        with (folder / "vms.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEAD)
            for number in range(OFFERS // len(CLOUDS)):
                kind, count = chance.choice(KINDS), chance.choice((1, 2, 4, 8))
                price = round(count * chance.uniform(0.3, 8.0), 4)
                gpus = {"Gpus": [{"Name": kind, "MemoryInfo": {"SizeInMiB": 81920}}]}
                size = (f"{cloud}-{number}", kind, float(count), 8.0 * count, 64.0 * count)
                region = f"region-{number % 40}"
                writer.writerow((*size, str(gpus), price, round(price * 0.4, 4), region))
    common = home / ".sky" / "catalogs" / "v8" / "common"
    common.mkdir()
    # The names that SkyPilot knows, which it would fetch.
    lines = "".join(f"{kind},{cloud}\n" for kind in KINDS for cloud in CLOUDS)
    (common / "accelerators.csv").write_text(f"AcceleratorName,Clouds\n{lines}")
    return OFFERS


def surroundings(home: Path) -> dict[str, str]:
    """A home of its own, with the managed environments of this user; Python may keep bytecode."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "HOME": str(home),
        "FTLAUNCH_STATE_DIR": str(home / "state"),
        "FTLAUNCH_CACHE_DIR": str(cache_dir()),
    }


def counted(env: Mapping[str, str]) -> None:
    """Count the tokens, and say how long that took: it is a step of its own."""
    began = time.perf_counter()
    ended = subprocess.run(
        [FTLAUNCH, "estimate", "tiny", "--json"], env=env, check=True, capture_output=True
    )
    how = json.loads(ended.stdout)["data"]["how"]
    print(f"first run, tokens {how}: {time.perf_counter() - began:.1f} s; kept from then on")


def cold(argv: list[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = seconds(argv, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def beside_sky(home: Path, env: Mapping[str, str], ours: list[str], *, runs: int) -> None:
    """The ratio to `sky launch --dryrun`, one after the other."""
    theirs = [SKY, "launch", "--dryrun", "-y", "--gpus", "H100:8", "true"]
    with serving(home, env) as there:
        said = subprocess.run(theirs, env=there, capture_output=True, text=True, check=False)
        if said.returncode:
            last = (said.stdout + said.stderr).strip().splitlines()[-1:]
            print(f"sky launch --dryrun cannot be measured here: {''.join(last)}")
            return
        figures = ratio(
            lambda: seconds(ours, env=env), lambda: seconds(theirs, env=there), runs=runs
        )
    figures = {**figures, "load": round(os.getloadavg()[0], 1)}
    keep("dry run against sky's", figures, limit=SHARE_OF_SKY, value=float(figures["ratio"]))


@contextlib.contextmanager
def serving(home: Path, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """SkyPilot's API server, with keys of nobody for clouds whose check asks no network."""
    (home / ".config" / "vastai").mkdir(parents=True)
    (home / ".config" / "vastai" / "vast_api_key").write_text("nobody")
    (home / ".hyperbolic").mkdir()
    (home / ".hyperbolic" / "api_key").write_text("nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {
        **env,
        "PATH": f"{Path(SKY).parent}{os.pathsep}{env['PATH']}",
        "SKYPILOT_API_SERVER_ENDPOINT": f"http://127.0.0.1:{port}",
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "sky.server.server", "--host", "127.0.0.1", "--port", str(port)],
        env=there,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(1)
        subprocess.run([SKY, "check"], env=there, capture_output=True, check=False)
        yield there
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=20)
        # Its workers may outlive it: the group is ours alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(home / ".sky", ignore_errors=True)


if __name__ == "__main__":
    main()
