"""Behaves towards signals as axolotl under `accelerate` does, without training anything.

The parent only waits, and leaves its child alone when it is told to end. The child trains: asked by
output/save-now it writes a checkpoint, file by file; on SIGINT it saves an adapter, slowly, and
exits with 0; SIGTERM ends it with nothing saved.

    fake_trainer.py [--deaf] [--refuses] [--finishes-on-save]
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

OUTPUT = Path("output")


def note(name: str, text: str) -> None:
    part = OUTPUT / (name + ".part")
    part.write_text(text)
    part.replace(OUTPUT / name)


def checkpoint(step: int) -> None:
    folder = OUTPUT / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
        with (folder / name).open("w") as file:
            for _ in range(3):  # a look half-way must not take it for whole
                file.write(f"{step}\n")
                file.flush()
                time.sleep(0.02)


def train() -> None:
    stop: list[int] = []
    if "--deaf" in sys.argv:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    checkpoint(1)
    note("trainer.pid", str(os.getpid()))
    step = 1
    while not stop:
        step += 1
        time.sleep(0.02)
        if (OUTPUT / "save-now").exists() and "--refuses" not in sys.argv:
            (OUTPUT / "save-now").unlink()
            checkpoint(step)
            print("saved", step, flush=True)
            if "--finishes-on-save" in sys.argv:
                return
    time.sleep(0.3)
    note("adapter_model.safetensors", f"adapter of step {step}")


def main() -> int:
    OUTPUT.mkdir(exist_ok=True)
    if "--child" in sys.argv:
        train()
        return 0
    child = subprocess.Popen([sys.executable, *sys.argv, "--child"])
    note("parent.pid", str(os.getpid()))
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.returncode = 0
        return 0  # and the child is an orphan


if __name__ == "__main__":
    sys.exit(main())
