"""A program may lose an interrupt; the runner does not leave it at one."""

from __future__ import annotations

from runner_rig import Rig, step

LOSES_THE_FIRST = """
import signal, sys, time
heard = []
def hear(*_):
    heard.append(1)
    if len(heard) > 1:
        open("output/saved", "w").write("saved")
        sys.exit(0)
signal.signal(signal.SIGINT, hear)
open("ready", "w").close()
while True:
    time.sleep(0.05)
"""


def test_an_interrupt_that_was_lost_is_sent_again_before_the_kill(rig: Rig) -> None:
    (rig.folder / "output").mkdir(exist_ok=True)
    recipe = {"touch": [], "wait_s": 1, "interrupt_s": 6, "steps": ["only"]}
    rig.plan(step(LOSES_THE_FIRST), stop=recipe)
    rig.ask("start")
    rig.until_there("ready")
    rig.ask("stop")
    state = rig.until_ended()
    assert state["phase"] == "stopped"
    assert (rig.folder / "output" / "saved").read_text() == "saved"
