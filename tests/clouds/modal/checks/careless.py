"""Functions as a careless launcher would write them; mounted as a module of their own."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

FOLDER = Path("/mnt/ftlaunch/runs")


def writes(name: str, seconds: float, *, commit: bool) -> str:
    """Write a file, perhaps commit it, and work on for a while."""
    import modal

    (FOLDER / name).write_text("made")
    if commit:
        modal.Volume.from_name("ftlaunch-runs").commit()
    print("written", flush=True)
    time.sleep(seconds)
    return "done"


def counts(seconds: float) -> int:
    """How often it was begun, as the volume tells; killed, it begins again."""
    import modal

    path = FOLDER / "starts"
    number = 1 + (int(path.read_text()) if path.exists() else 0)
    path.write_text(str(number))
    modal.Volume.from_name("ftlaunch-runs").commit()
    if number == 1:
        time.sleep(seconds)
    return number


def hears(name: str) -> str:
    """What interrupts it goes into a file, and is committed before the end."""
    import modal

    signal.signal(signal.SIGINT, signal.default_int_handler)
    volume = modal.Volume.from_name("ftlaunch-runs")
    if (FOLDER / name).exists():
        return (FOLDER / name).read_text()
    print("listening", flush=True)
    try:
        time.sleep(60)
    except BaseException as heard:
        (FOLDER / name).write_text(type(heard).__name__)
        volume.commit()
        raise
    return "nothing"


def reloads(*, held: bool) -> str:
    """Reload the volume, with a file of it open or not."""
    import modal

    (FOLDER / "held").write_text("x")
    volume = modal.Volume.from_name("ftlaunch-runs")
    with (FOLDER / "held" if held else Path(os.devnull)).open():
        try:
            volume.reload()
        except RuntimeError as error:
            return str(error)
    return "reloaded"


def fails(times: int) -> int:
    """Fail so many times, then return how often it was begun."""
    import modal

    path = FOLDER / "fails"
    number = 1 + (int(path.read_text()) if path.exists() else 0)
    path.write_text(str(number))
    modal.Volume.from_name("ftlaunch-runs").commit()
    if number <= times:
        raise RuntimeError("on purpose")
    return number


def meets(order: str) -> str:
    """What one of a cluster's containers is told; what it does next is in `order`, by rank."""
    import modal

    cluster = modal.Cluster.from_context()
    rank = cluster.container_rank()
    own = cluster.container_ips(family="ipv4")[rank]
    with socket.create_server((own, 0)) as door:  # an address of this container, and of no other
        port = door.getsockname()[1]
    print(f"rank {rank} of {len(cluster.container_ips())} at {own}, {bool(port)}", flush=True)
    what = order.split()[rank]
    if what == "fails":
        raise RuntimeError("on purpose")
    if what == "stays":
        time.sleep(60)
    return f"rank {rank}"
