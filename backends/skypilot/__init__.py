"""Jobs on any cloud, Kubernetes or Slurm behind the user's own SkyPilot.

SkyPilot finds, makes and ends clusters; what runs on one is laid out, looked at and fetched over
the cluster's own ssh alias, as on every machine that is reached by ssh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.protocol import Options
    from backends.skypilot.backend import SkyPilot


def factory(options: Options) -> SkyPilot:
    """What the entry point `skypilot` names. Raises BadInput for a detail it does not know."""
    from backends.skypilot.backend import SkyPilot

    return SkyPilot(options)
