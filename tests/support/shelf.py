"""Tiny packages on a local shelf: real wheels and sdists, so that uv is real and no network is."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from launcher.environment.spec import Spec

HERE = (3, 11)

NOTED = """
import os, pathlib, time
note = pathlib.Path(os.environ["SHELF"]) / "imported.txt"
with note.open("a") as file:
    file.write("once\\n")
gate = pathlib.Path(os.environ["SHELF"]) / "import.gate"
while gate.exists():
    time.sleep(0.02)
"""
"""A module that notes each import, and waits while the shelf has a gate."""

BACKEND = """
import os, pathlib, time, zipfile
shelf = pathlib.Path(os.environ["SHELF"])
def build_wheel(folder, config_settings=None, metadata_directory=None):
    (shelf / "building.txt").touch()
    while (shelf / "build.gate").exists():
        time.sleep(0.02)
    name = "built-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        wheel.writestr("built.py", "")
        for entry, *lines in (
            ("METADATA", "Metadata-Version: 2.1", "Name: built", "Version: 1.0"),
            ("WHEEL", "Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"),
            ("RECORD",),
        ):
            wheel.writestr(f"built-1.0.dist-info/{entry}", "\\n".join(lines))
    return name
"""
"""A build backend that waits while the shelf has a gate."""


class Shelf:
    """A folder of packages, and the locks that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        *,
        code: str = "",
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Put a wheel on the shelf, with `extra` files in it; returns its locked line."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}/__init__.py": code,
            **extra,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        }
        record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for inner, text in files.items():
                wheel.writestr(inner, text)
        return self._line(name, version, path)

    def slow_source(self) -> str:
        """Put a source package on the shelf whose build waits at the gate; its locked line."""
        files = {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            'backend-path = ["."]\n[project]\nname = "built"\nversion = "1.0"\n',
            "backend.py": BACKEND,
            "PKG-INFO": "Metadata-Version: 2.2\nName: built\nVersion: 1.0\n",
        }
        path = self.folder / "built-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for inner, text in files.items():
                entry = tarfile.TarInfo(f"built-1.0/{inner}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return self._line("built", "1.0", path)

    def lock(self, *lines: str) -> Path:
        """Write a lock of these lines."""
        path = self.folder / "lock.txt"
        path.write_text("# a comment\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    def gate(self, name: str) -> Path:
        """Close the gate of that name, until its file is removed."""
        path = self.folder / f"{name}.gate"
        path.touch()
        return path

    def imports(self) -> int:
        """How often the noting module was imported."""
        note = self.folder / "imported.txt"
        return len(note.read_text().splitlines()) if note.exists() else 0

    def _line(self, name: str, version: str, path: Path) -> str:
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} \\\n    --hash=sha256:{sha}\n    # via nobody"


def spec(lock: Path, *imports: str, python: str, room_bytes: int = 0) -> Spec:
    """A spec for a tiny lock."""
    return Spec(
        flavour="tiny",
        lock=lock,
        python=python,
        python_version=HERE,
        imports=imports,
        room_bytes=room_bytes,
    )


def _digest(text: str) -> str:
    raw = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + raw.rstrip(b"=").decode()
