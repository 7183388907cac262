"""What a machine that is not this one must have for a recipe: the lock, and what to look for first.

A provider's own image may hold axolotl already. It is used when its versions are those of the lock,
else the lock is installed there. How a provider is asked for such an image is data, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping

from backends.job import Environment
from launcher.environment.install import PUBLIC_TORCH_INDEX
from launcher.environment.spec import PYTHONS, Spec

MUST_FIT = ("axolotl", "torch", "transformers", "peft", "accelerate", "datasets", "deepspeed")
"""Packages whose versions decide what a training does; those a lock lacks are not asked for."""

_IMAGES: Mapping[str, Mapping[str, str]] = {
    # One of its templates is axolotl's; what that holds is looked at, not assumed.
    "jarvis": {"template": "axolotl"},
    # The lock on a slim image: what a published image holds has no digest that was read here.
    "modal": {},
}

_PYTHON = ".".join(map(str, PYTHONS[0]))


def for_far(spec: Spec) -> Environment:
    """The environment as data, for a machine elsewhere."""
    versions = spec.pins.versions
    wanted = {
        "probe": " ".join(f"{name}=={versions[name]}" for name in MUST_FIT if name in versions),
        "python": _PYTHON,
        "imports": " ".join(spec.imports),
        # What the hub gives is as large as the model: it must outlive a pause of the machine.
        "lasting": "HF_HOME=huggingface",
    }
    if spec.pins.unhashed:
        wanted["index"] = PUBLIC_TORCH_INDEX
    hints = {provider: {**wanted, **image} for provider, image in _IMAGES.items()}
    return Environment(lock=spec.lock, hints=hints)
