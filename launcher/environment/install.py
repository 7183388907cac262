"""Install a lock into an empty virtual environment: exactly its pins, nothing resolved anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from backends.errors import Refused
from launcher.environment import uvtool
from launcher.environment.lockfile import Pin
from launcher.environment.spec import Spec
from launcher.environment.uvtool import UvFailed, Workplace

TORCH_INDEX = "FTLAUNCH_TORCH_INDEX"

PUBLIC_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where the CPU builds of torch are published; the common index carries only the CUDA build."""


def install(spec: Spec, prefix: Path, place: Workplace) -> None:
    """Make the virtual environment at `prefix` and fill it; raises Refused."""
    env = uvtool.surroundings()
    what = f"the {spec.flavour} environment"
    try:
        uvtool.run(
            ["venv", "--no-project", "--python", spec.python, "--", str(prefix)], place, env=env
        )
    except UvFailed as failure:
        if "no interpreter found" in failure.text.lower():
            wanted = ".".join(map(str, spec.python_version))
            raise Refused(
                f"axolotl needs Python {wanted}, and there is none here",
                hint=f"install Python {wanted}, or let uv fetch it: unset UV_PYTHON_DOWNLOADS",
            ) from failure
        raise failure.refusal(what, place.log) from failure
    if spec.pins.unhashed:
        _from_torch_index(spec, prefix, place, env)
    try:
        _pip(spec.pins.hashed, prefix, place, env=env, options=["--require-hashes"])
    except UvFailed as failure:
        raise failure.refusal(what, place.log) from failure


def _from_torch_index(spec: Spec, prefix: Path, place: Workplace, env: Mapping[str, str]) -> None:
    """Install the pins without hashes, which only an index of torch builds has.

    They are installed by themselves, without dependencies, so that nothing else is ever taken from
    that index: it also carries, under the same versions, other builds of locked packages.
    """
    chosen = env.get(TORCH_INDEX)
    public = {**env, "UV_DEFAULT_INDEX": chosen or PUBLIC_TORCH_INDEX}
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
        public.pop(name, None)
    # As configured comes first: a wheel folder, or an index of the user's that has the CPU build.
    places = [public] if chosen else [dict(env), public]
    failures = []
    for surroundings in places:
        try:
            return _pip(spec.pins.unhashed, prefix, place, env=surroundings, options=[])
        except UvFailed as failure:
            failures.append(failure)
    wanted = ", ".join(f"{pin.name} {pin.version}" for pin in spec.pins.unhashed)
    version = ".".join(map(str, spec.python_version))
    last = failures[-1]
    if last.unreachable:
        index = _shown(public["UV_DEFAULT_INDEX"])
        raise Refused(
            f"{wanted} was not installed: {index} could not be reached",
            hint=f"name an index that has it with {TORCH_INDEX}, or a wheel folder with "
            f"PIP_FIND_LINKS; all that uv said: {str(place.log)!r}",
        ) from last
    if last.unresolved:
        raise Refused(
            f"no build of {wanted} for Python {version} on this machine could be found",
            hint=f"name an index that has it with {TORCH_INDEX} (the public one is "
            f"{PUBLIC_TORCH_INDEX}), or a wheel folder with PIP_FIND_LINKS; "
            f"all that uv said: {str(place.log)!r}",
        ) from last
    raise last.refusal(wanted, place.log) from last


def _shown(url: str) -> str:
    """The URL without the name and password it may carry."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _pip(
    pins: Sequence[Pin],
    prefix: Path,
    place: Workplace,
    *,
    env: Mapping[str, str],
    options: Sequence[str],
) -> None:
    if not pins:
        return
    wanted = prefix / "requirements.txt"
    wanted.write_text("".join(pin.text for pin in pins), encoding="utf-8")
    python = str(prefix / "bin" / "python")
    uvtool.run(
        ["pip", "install", "--no-deps", *options, "--python", python, "--requirement", str(wanted)],
        place,
        env=env,
    )
