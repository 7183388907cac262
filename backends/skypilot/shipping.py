"""What a machine that nobody has seen is told, so that it works on a job that lies in a bucket."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import textwrap
import zipfile
from datetime import timedelta
from pathlib import Path

from backends.errors import Refused
from backends.skypilot.addresses import Address
from backends.ssh import make_environment
from backends.ssh.workplace import Workplace

PACKAGE = Path(__file__).with_name("bucket")
_PYTHON = "3.11"
_LONG = timedelta(hours=6)
_AS = "ftlaunch_bucket"
_SAYS = "# ftlaunch keeps this job in "
_SAID = re.compile(rf"{_SAYS}(\S+)")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def script(address: Address, job: str) -> str:
    """What SkyPilot runs. Its first line tells another computer where the job lies."""
    begin = base64.b64encode(begin_source().encode()).decode()
    return "\n".join(
        [
            f"{_SAYS}{address.url}",
            "exec python3 -I -c \"$(base64 -d <<'BEGIN'",
            *textwrap.wrap(begin, 100),
            "BEGIN",
            f")\" work {shlex.quote(address.url)} {job} <<'BUCKET'",
            *textwrap.wrap(payload(address).decode(), 100),
            "BUCKET",
        ]
    )


def said(script: str) -> str:
    """Where a job lies, by the script that SkyPilot has of it; empty where it does not say."""
    found = _SAID.search(script)
    return found[1] if found else ""


def bring(place: Workplace, address: Address, job: str) -> None:
    """Bring a job that has ended from its bucket to a machine; nothing of it comes from here.

    Raises Refused with the machine's own words, SshError.
    """
    command = ["python3", "-I", "-c", begin_source(), "bring", address.url, job, str(place.root)]
    done = place.host.run(command, stdin=payload(address), timeout=_LONG)
    if done.code:
        said = done.err.decode("utf-8", "replace").strip() or "no reason was given"
        raise Refused(
            f"the machine cannot bring {job} from {address.url}: {said.splitlines()[-1]}",
            hint="its cloud's credentials on the cluster must be able to read the bucket",
        )


def begin_source() -> str:
    """The program that takes the payload."""
    return (PACKAGE / "begin.py").read_text("utf-8")


def payload(address: Address) -> bytes:
    """Everything that `bucket/begin.py` lays out, the same for the same software."""
    files = {
        "package.zip": _package(),
        "lock.txt": (PACKAGE / address.pins).read_bytes(),
        "make_environment.py": Path(make_environment.__file__).read_bytes(),
    }
    content = {
        "module": address.module,
        "python": _PYTHON,
        "files": {name: base64.b64encode(text).decode() for name, text in files.items()},
    }
    return base64.b64encode(json.dumps(content).encode())


def _package() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(PACKAGE.glob("*.py")):
            name = zipfile.ZipInfo(f"{_AS}/{path.name}", _EPOCH)
            file.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()
