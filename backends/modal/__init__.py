"""Jobs on Modal: functions in containers, whose results are committed to a Volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.protocol import Options

if TYPE_CHECKING:
    from backends.modal.backend import Modal


def factory(options: Options) -> Modal:
    """What the entry point `modal` names. Raises BadInput for a detail it does not know."""
    from backends.modal.backend import Modal

    return Modal(options)
