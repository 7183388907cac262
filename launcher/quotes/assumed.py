"""How long what surrounds a training takes. Assumptions, each with where it comes from.

None of them was measured at a provider: where one of your runs has shown it, that is used instead.
"""

from __future__ import annotations

from launcher.estimate import Range

BOOT_S = {
    # A container starts in seconds where its image is known; a queue costs nothing.
    "modal": Range(10, 30, 120),
    # The provider's documentation speaks of a minute or two.
    "jarvis": Range(40, 90, 240),
    # A cloud's machine, its driver, and SkyPilot's own software on it.
    "skypilot": Range(150, 300, 600),
    "local": Range(0, 1, 5),
}
OTHER_BOOT_S = Range(60, 180, 600)

SOFTWARE_S = {
    # The image is built before anything is rented.
    "modal": Range(0, 0, 0),
    "local": Range(0, 0, 0),
}
OTHER_SOFTWARE_S = Range(90, 240, 420)
"""Our lock put onto a machine: 5:20 was measured once, on two cores."""

LOAD_S = Range(25, 45, 90)
"""Imports, the model into memory, compiling kernels: before a first step."""

DOWNLOAD_BYTES_PER_S = Range(60e6, 250e6, 800e6)
"""From a model hub to a data centre."""

UPLOAD_BYTES_PER_S = 1_250_000
"""Ten megabits: a slow home line. What was measured counts instead."""

PULL_BYTES_PER_S = Range(2e6, 6e6, 25e6)
"""Results to this computer: 16 to 200 Mbit/s."""

ROWS_PER_S = Range(400, 1500, 5000)
"""Tokenised while data are prepared."""

DISK_BYTES_PER_S = Range(150e6, 500e6, 1500e6)
"""A checkpoint or a merged model to a rented disk."""
