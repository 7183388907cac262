"""What ftlaunch adds to the axolotl commands it runs, on the tiny recipe; and its own memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import yaml

from backends import RunPath
from benchmarks.measure import keep, ratio, seconds
from launcher import environment
from launcher.bundled import configs_dir
from launcher.commands import CONFIG, Target, merge, preprocess, train
from launcher.derive import derive, to_yaml
from launcher.plan_text import arguments
from launcher.run.build import environment as job_environment

FTLAUNCH = str(Path(sys.executable).with_name("ftlaunch"))
RUNS = 3


def main() -> None:
    """Measure time against the commands typed by hand, then memory while following."""
    prefix = environment.ensure(environment.choose({}, gpu=False))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        figures = ratio(lambda: launched(work), lambda: by_hand(work, prefix), runs=RUNS, warmup=0)
        keep("train + merge", figures, limit=1.05, value=float(figures["ratio"]))
        peak = memory_while_following(work)
        keep("memory while following, MiB", {"mib": peak}, limit=80, value=peak)


def launched(work: Path) -> float:
    """`ftlaunch train` (with its own merge job) on the tiny recipe."""
    shutil.rmtree(work / "ours", ignore_errors=True)
    (work / "ours").mkdir()
    env = {**os.environ, "FTLAUNCH_STATE_DIR": str(work / "ours" / "state")}
    out = str(work / "ours" / "out")
    return seconds([FTLAUNCH, "train", "tiny", "-o", out], env=env)


def by_hand(work: Path, prefix: Path) -> float:
    """The same three commands, one after the other, in a folder laid out the same."""
    root = work / "hand"
    shutil.rmtree(root, ignore_errors=True)
    bundle = root / "bundle"
    shutil.copytree(configs_dir() / "tiny", bundle / "tiny")
    shutil.copytree(configs_dir() / "data", bundle / "data")
    config = yaml.safe_load((configs_dir() / "tiny.yml").read_text())
    derived, _ = derive(config, workdir=PurePosixPath("bundle"), cpu=True)
    (bundle / CONFIG).write_text(to_yaml(derived))
    env = by_hand_environment(prefix)
    target = Target("cpu")
    commands = (
        preprocess(),
        train(target=target),
        merge(adapter=RunPath("output"), output=RunPath("output")),
    )
    began = time.perf_counter()
    for argv in commands:
        typed = [item.replace("$RUN", str(root)) for item in arguments(argv)]
        subprocess.run(
            [str(prefix / "bin" / typed[0]), *typed[1:]],
            check=True,
            cwd=bundle,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return time.perf_counter() - began


def by_hand_environment(prefix: Path) -> Mapping[str, str]:
    """What a careful person would set."""
    given = job_environment({"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""})
    path = f"{prefix / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, **given, "PATH": path}


def memory_while_following(work: Path) -> float:
    """The follower's peak resident memory in MiB."""
    env = {**os.environ, "FTLAUNCH_STATE_DIR": str(work / "memory" / "state")}
    out = str(work / "memory" / "out")
    process = subprocess.Popen(
        [FTLAUNCH, "train", "tiny", "--no-merge", "-o", out],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit("the run failed")
    return round(used.ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
