"""The managed axolotl environment: which one a recipe needs, made once, checked, re-made if broken.

axolotl pins hundreds of packages and cannot share an environment with the launcher, which therefore
never imports it. What is installed is a complete lock (`configs/env/`); this package installs it
with uv under the user's cache directory and hands out the folder.
"""

from launcher.environment.cache import cache_dir
from launcher.environment.far import TAKE_IMAGES, for_far
from launcher.environment.gpu import Gpu, detect, require_cuda13
from launcher.environment.make import (
    Installed,
    ensure,
    healthy,
    inspect,
    prefix_of,
    probe,
    python_of,
    remove,
    verify,
)
from launcher.environment.spec import Spec, choose, required_extras

__all__ = [
    "TAKE_IMAGES",
    "Gpu",
    "Installed",
    "Spec",
    "cache_dir",
    "choose",
    "detect",
    "ensure",
    "for_far",
    "healthy",
    "inspect",
    "prefix_of",
    "probe",
    "python_of",
    "remove",
    "require_cuda13",
    "required_extras",
    "verify",
]
