"""Small wheels and an index of them, so that software can be installed without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Wheels:
    """A folder of wheels; `simple` below it is an index."""

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, version: str, code: str = "", *, script: str = "") -> str:
        """A wheel of one module, or with a program of the same name; the lock's line for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": code,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n",
        }
        if script:
            files[f"{name}-{version}.data/scripts/{name}"] = script
        rows = "".join(f"{path},sha256={_digest(text)},\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{rows}{info}/RECORD,,\n"
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as made:
            for inside, text in files.items():
                entry = zipfile.ZipInfo(inside)
                entry.external_attr = (0o100755 if ".data/scripts/" in inside else 0o100644) << 16
                made.writestr(entry, text)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        page = self.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        link = f'<a href="../../{path.name}#sha256={digest}">{path.name}</a>\n'
        page.write_text((page.read_text() if page.exists() else "") + link)
        self.digests[name] = digest
        return f"{name}=={version} \\\n    --hash=sha256:{digest}\n    # via a test\n"


def _digest(text: str) -> str:
    made = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return made.rstrip(b"=").decode()
