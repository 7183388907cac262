"""What pip is configured with here, so that uv, which does not read it, can be told.

Only what decides where packages come from: the wheel folders (`find-links`) and the index that
takes the place of the public one (`index-url`). pip itself may be absent, so its files are read.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

SECTIONS = ("global", "install")


def find_links(environ: Mapping[str, str]) -> list[str]:
    """Folders and pages of wheels that pip looks into, in pip's order."""
    return _setting("find-links", environ).split()


def index_url(environ: Mapping[str, str]) -> str:
    """The index that pip asks instead of the public one; empty when none is set."""
    return _setting("index-url", environ).strip()


def _setting(key: str, environ: Mapping[str, str]) -> str:
    variable = "PIP_" + key.upper().replace("-", "_")
    if variable in environ:
        return environ[variable]
    value = ""
    for path in _files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip says so itself, when it is used
        for section in SECTIONS:
            value = parser.get(section, key, fallback=value)
    return value


def _files(environ: Mapping[str, str]) -> list[Path]:
    """The configuration files of pip, the one that counts most last."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    home = Path(environ.get("HOME") or "/")
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    files = [
        *(Path(folder) / "pip" / "pip.conf" for folder in reversed(shared)),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        home / "Library" / "Application Support" / "pip" / "pip.conf",
        config_home / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    return [*files, Path(chosen)] if chosen else files
