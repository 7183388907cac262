"""Variables that a job gets for the hardware it runs on."""

from __future__ import annotations

import os

from backends.offer import Offer
from launcher.commands import Target


def of_target(target: Target, offer: Offer) -> dict[str, str]:
    """What a training must be told about this hardware."""
    variables: dict[str, str] = {}
    if target.kind == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
        # Left to itself, accelerate counts the cores of the whole machine, and may find none.
        variables["OMP_NUM_THREADS"] = str(offer.cpus or 1)
        # Threads that spin while they wait lose most of their time when another program has one of
        # the cores: 15 rounds of matrix products against 42, on two cores with one of them busy.
        variables["OMP_WAIT_POLICY"] = "passive"
    devices = offer.data.get("devices")
    if target.kind == "cuda" and devices and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        variables["CUDA_VISIBLE_DEVICES"] = devices
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as the driver's own tool counts
    return variables
