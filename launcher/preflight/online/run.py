"""What the run will have of this terminal: variables, tokens, and the machine's own login."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from launcher.preflight.tokens import HF_NAMES
from launcher.recipe.model import kept_secret

if TYPE_CHECKING:
    from launcher.preflight.problem import Look

HUB = "https://huggingface.co"
WANDB = "https://api.wandb.ai"
_TRUE = {"1", "ON", "YES", "TRUE"}
"""What `huggingface_hub.constants` takes for true."""


@dataclass(frozen=True)
class Run:
    """Where and with what it would run.

    here      on this very machine, whose login counts
    env       the variables it gets: the recipe's and those of the command line
    terminal  this terminal's variables
    trains    False when it only prepares the data
    """

    here: bool
    env: Mapping[str, str] = field(default_factory=dict)
    terminal: Mapping[str, str] = field(default_factory=lambda: os.environ)
    trains: bool = True

    @cached_property
    def offline(self) -> bool:
        """Whether this terminal, or the run, is told to leave the hub alone."""
        names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        return any((self.variable(name) or "").upper() in _TRUE for name in names)

    @cached_property
    def hub(self) -> str:
        """The address of the hub, without a slash at its end."""
        return (self.variable("HF_ENDPOINT") or HUB).rstrip("/")

    @cached_property
    def wandb(self) -> str:
        """The address of Weights & Biases, without a slash at its end."""
        return (self.variable("WANDB_BASE_URL") or WANDB).rstrip("/")

    def variable(self, name: str) -> str | None:
        """The run's own word; where it says nothing, this terminal's."""
        return self.env.get(name) or self.terminal.get(name)

    def has_kept(self, model: str) -> bool:
        """Whether it runs here, where the hub's cache has something of that model."""
        if not self.here:
            return False
        cache = self.variable("HF_HUB_CACHE") or f"{_hub_home(self)}/hub"
        kept = _path(f"{cache}/models--{model.replace('/', '--')}/snapshots", self)
        try:
            return any(kept.iterdir())
        except OSError:
            return False


def host_of(url: str) -> str:
    """How people call that service."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or url
    except ValueError:  # half an IPv6 address
        return url


@dataclass(frozen=True)
class Key:
    """A token, and what a user calls it. Its value shows nowhere."""

    name: str
    value: str = field(repr=False)
    login: bool = False
    """It is this machine's own login, not a variable."""


@dataclass(frozen=True)
class Keys:
    """What the run can show who it is with.

    hub, wandb  the token; None for none
    unknown     secrets that may hold a token and are not known here: a provider keeps them, or
                they are not set in this terminal
    logged_in   this machine is logged in to the hub, and the run is given nothing of it
    set_here    the variable that holds a token here, and is not among the run's secrets
    """

    hub: Key | None
    wandb: Key | None
    unknown: tuple[str, ...] = ()
    logged_in: bool = False
    set_here: str = ""


def keys_of(look: Look, run: Run) -> Keys:
    """The tokens that count are those the run would get, whatever else this terminal has."""
    names = tuple(dict.fromkeys((*look.recipe.launch.secrets, *look.secrets)))
    hub = _variable(names, HF_NAMES, run)
    wandb = _variable(names, ("WANDB_API_KEY",), run)
    login = _hub_login(run)
    if run.here:
        hub = hub or login
        wandb = wandb or _wandb_login(run)
    unset = [n for n in names if n in {*HF_NAMES, "WANDB_API_KEY"} and not run.terminal.get(n)]
    unknown = (*(name for name in names if kept_secret(name)), *unset)
    if hub is not None:
        return Keys(hub, wandb, unknown)
    set_here = next((name for name in HF_NAMES if run.terminal.get(name)), "")
    return Keys(None, wandb, unknown, login is not None and not set_here, set_here)


def _variable(names: tuple[str, ...], wanted: tuple[str, ...], run: Run) -> Key | None:
    """The first of the wanted ones that is among the secrets; the clients look in that order."""
    for name in wanted:
        if name in names and (value := run.terminal.get(name, "").strip()):
            return Key(name, value)
    return None


def _hub_login(run: Run) -> Key | None:
    """What `hf auth login` left, where `huggingface_hub.constants` says it is."""
    text = _read(_path(f"{_hub_home(run)}/token", run))
    return Key("this machine's login", text, login=True) if text else None


def _hub_home(run: Run) -> str:
    caches = run.variable("XDG_CACHE_HOME") or "~/.cache"
    return run.variable("HF_HOME") or f"{caches}/huggingface"


def _wandb_login(run: Run) -> Key | None:
    """What `wandb login` left in ~/.netrc, under the host that it is asked at."""
    try:
        found = netrc.netrc(_path("~/.netrc", run)).authenticators(host_of(run.wandb))
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return Key("the key in ~/.netrc", found[2], login=True) if found and found[2] else None


def _path(text: str, run: Run) -> Path:
    home = run.terminal.get("HOME")
    if text.startswith("~/") and home:
        text = home + text[1:]
    return Path(os.path.expandvars(text)).expanduser()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
