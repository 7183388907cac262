"""Jobs on rented machines of Jarvis Labs; the SDK is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.jarvis.backend import Jarvis
    from backends.protocol import Options


def factory(options: Options) -> Jarvis:
    """What the entry point `jarvis` names; to read this package's other modules stays cheap."""
    from backends.jarvis import backend

    return backend.factory(options)
