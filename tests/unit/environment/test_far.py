"""What a machine elsewhere is told to have."""

from __future__ import annotations

from launcher import environment
from launcher.environment.far import MUST_FIT


def test_the_lock_and_what_must_fit_go_with_the_job() -> None:
    spec = environment.choose({}, gpu=True)
    far = environment.for_far(spec)
    assert far.prefix is None
    assert far.lock == spec.lock
    hints = far.hints["jarvis"]
    versions = spec.pins.versions
    assert hints["template"] == "axolotl"
    asked = dict(one.split("==") for one in hints["probe"].split())
    assert asked == {name: versions[name] for name in MUST_FIT if name in versions}
    assert {"axolotl", "torch", "transformers"} <= set(asked)
    assert "index" not in hints


def test_without_a_gpu_it_is_the_cpu_build_of_torch_and_its_index() -> None:
    hints = environment.for_far(environment.choose({}, gpu=False)).hints["jarvis"]
    assert "torch==2.13.0+cpu" in hints["probe"]
    assert hints["index"].startswith("https://")
