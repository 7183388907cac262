"""A loopback Jarvis Labs whose machines have axolotl, as the image that the provider has of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clouds.jarvis.cloud import Cloud
from clouds.jarvis.image import Template

from backends.jarvis.pace import VARIABLE

SPEED = 20.0


@contextmanager
def cloud_with_axolotl(folder: Path, python: Path) -> Iterator[Cloud]:
    """The cloud, opened; `python` is that of the managed environment, which its images share."""
    home = python.resolve().parents[1]
    image = Template(path_first=[python.parent])
    visible = {python.parents[1], home, Path(sys.base_prefix), Path(sys.prefix)}
    with Cloud(
        folder,
        speed=SPEED,
        visible=sorted(visible),
        templates={"vm": image, "axolotl": image},
    ) as cloud:
        yield cloud


def variables(cloud: Cloud) -> dict[str, str]:
    """What the command line must have in its environment to use this cloud."""
    return {**cloud.environ, VARIABLE: str(SPEED)}
