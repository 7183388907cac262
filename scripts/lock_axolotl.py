"""Make the locks of the managed axolotl environment (configs/env/) from pyproject.toml.

    python scripts/lock_axolotl.py [--upgrade]    write the locks; needs a package index
    python scripts/lock_axolotl.py --check        say whether they are made from today's pyproject

The dependency group `axolotl` is the single source. There are several locks because no one set of
pins serves both builds of torch, and because deepspeed is wanted only where there is a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher.environment import lockfile, pipconf, uvtool  # noqa: E402
from launcher.environment.install import PUBLIC_TORCH_INDEX, TORCH_INDEX  # noqa: E402

GROUP = "axolotl"
PYTHON = "3.11"
FORMAT = 1


@dataclass(frozen=True)
class Variant:
    """One lock: a build of torch (the local part of its version) and extras of axolotl."""

    name: str
    torch_build: str = ""
    extras: tuple[str, ...] = ()


VARIANTS = (
    Variant("axolotl-cpu", torch_build="+cpu"),
    Variant("axolotl-cu130"),
    Variant("axolotl-cu130-deepspeed", extras=("deepspeed",)),
)


def requirements(variant: Variant, pyproject: Path) -> list[str]:
    """The group's requirements, as this variant wants them."""
    with pyproject.open("rb") as file:
        group: list[str] = tomllib.load(file)["dependency-groups"][GROUP]
    wanted = []
    for requirement in group:
        line = requirement
        if line.startswith("torch=="):
            line += variant.torch_build
        if line.startswith("axolotl==") and variant.extras:
            line = line.replace("axolotl", f"axolotl[{','.join(variant.extras)}]", 1)
        wanted.append(line)
    return sorted(wanted)


def inputs_digest(variant: Variant, pyproject: Path) -> str:
    """Names everything a lock is made from, other than the day."""
    inputs = [f"format {FORMAT}", f"python {PYTHON}", *requirements(variant, pyproject)]
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()


def header(variant: Variant, pyproject: Path) -> str:
    """The first lines of a lock."""
    lines = [
        "Made by scripts/lock_axolotl.py from the group `axolotl` of pyproject.toml: change that.",
        *(f"  {line}" for line in requirements(variant, pyproject)),
        f"inputs: sha256:{inputs_digest(variant, pyproject)}",
    ]
    if variant.torch_build:
        lines.append(
            "torch has no hash here: several indexes publish that build under one version, each"
        )
        lines.append("built by itself. Everything else has one.")
    return "".join(f"# {line}\n" for line in lines)


def is_current(variant: Variant, lock: Path, pyproject: Path) -> bool:
    """True when the lock says it was made from these inputs."""
    if not lock.is_file():
        return False
    found = re.search(r"^# inputs: sha256:([0-9a-f]{64})$", lock.read_text("utf-8"), re.MULTILINE)
    return found is not None and found[1] == inputs_digest(variant, pyproject)


def without_torch_hashes(text: str) -> str:
    """The lock's text with the hashes of a `+build` of torch taken away."""
    return re.sub(
        r"^(torch==\S+\+\S+(?: ; [^\\\n]*)?) \\\n(?:    --hash=\S+(?: \\)?\n)+",
        r"\1\n",
        text,
        flags=re.MULTILINE,
    )


def compile_lock(variant: Variant, pyproject: Path, old: str, *, upgrade: bool) -> str:
    """The lock's text; pins of `old` are kept where they still fit, unless `upgrade`."""
    env = uvtool.surroundings()
    if not variant.torch_build:
        env.pop("UV_FIND_LINKS", None)  # a folder with the CPU build would answer for torch==2.13.0
    with tempfile.TemporaryDirectory() as scratch:
        source, result = Path(scratch, "pyproject-group.in"), Path(scratch, "lock.txt")
        source.write_text("".join(f"{line}\n" for line in requirements(variant, pyproject)))
        result.write_text(old)
        argv = [str(uvtool.uv_binary()), "pip", "compile", source.name, "-o", result.name]
        argv += ["--universal", "--python-version", PYTHON, "--generate-hashes", "--quiet"]
        argv += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-config"]
        if upgrade:
            argv += ["--upgrade"]
        index = env.get(TORCH_INDEX)
        if variant.torch_build and (index or not pipconf.find_links(env)):
            # Only a resolution: every pin but torch's is bound to its hash when it is installed.
            argv += ["--index", index or PUBLIC_TORCH_INDEX]
            argv += ["--index-strategy", "unsafe-best-match"]
        subprocess.run(argv, cwd=scratch, env=env, check=True)
        return header(variant, pyproject) + without_torch_hashes(result.read_text("utf-8"))


def main(arguments: list[str]) -> int:
    """Make or check; the exit code is 1 when a lock is out of date."""
    parser = argparse.ArgumentParser(description="Make the locks of the axolotl environment.")
    parser.add_argument("--check", action="store_true", help="only say whether they are current")
    parser.add_argument("--upgrade", action="store_true", help="take the newest of everything")
    parser.add_argument("--pyproject", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--folder", type=Path, default=ROOT / "configs" / "env")
    chosen = parser.parse_args(arguments)
    stale = 0
    for variant in VARIANTS:
        lock = chosen.folder / f"{variant.name}.txt"
        if chosen.check:
            current = is_current(variant, lock, chosen.pyproject)
            stale += not current
            print(f"{variant.name}: {'current' if current else 'out of date'}")
            continue
        old = lock.read_text("utf-8") if lock.is_file() else ""
        text = compile_lock(variant, chosen.pyproject, old, upgrade=chosen.upgrade)
        lock.write_text(text, encoding="utf-8")
        print(f"{variant.name}: {len(lockfile.parse(text).pins)} pins")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
