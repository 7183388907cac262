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
    # The lock on a slim image; a recipe's `image` is used instead.
    "modal": {},
    # Whatever a cluster's image has is looked at; the lock is installed where that is not enough.
    "skypilot": {},
}

TAKE_IMAGES = frozenset({"modal"})
"""Providers that run a job in an image of the user's choice."""

_PYTHON = ".".join(map(str, PYTHONS[0]))


def for_far(spec: Spec, *, image: str | None = None) -> Environment:
    """The environment as data, for a machine elsewhere.

    image  a published image to use as it is, where the provider takes images
    """
    versions = spec.pins.versions
    wanted = {
        "probe": " ".join(f"{name}=={versions[name]}" for name in MUST_FIT if name in versions),
        "python": _PYTHON,
        "imports": " ".join(spec.imports),
        # What the hub gives is as large as the model: it must outlive a pause of the machine. Only
        # that: beside it the user's own rows are cached, which are to go with the job.
        "lasting": "HF_HUB_CACHE=huggingface/hub",
    }
    if spec.pins.unhashed:
        wanted["index"] = PUBLIC_TORCH_INDEX
    hints = {provider: {**wanted, **template} for provider, template in _IMAGES.items()}
    if image is not None:
        for provider in TAKE_IMAGES:
            hints[provider]["image"] = image
    return Environment(lock=spec.lock, hints=hints)
