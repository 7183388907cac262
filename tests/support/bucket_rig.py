"""A bucket on loopback: moto's S3, as a user sees it who has set it up for the cloud's programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.skypilot.addresses import address
from backends.skypilot.bucket.objects import Objects
from backends.skypilot.stores import Store

_SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""
URL = "s3://lab/jobs-of-mine"
VARIABLES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@dataclass(frozen=True)
class Bucket:
    """A bucket called `lab`."""

    port: int
    aws: Path

    @property
    def environ(self) -> dict[str, str]:
        """What its user has set, where HOME is not theirs."""
        found = (self.aws / "config", self.aws / "credentials")
        return {
            **dict(zip(VARIABLES, map(str, found), strict=True)),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def lay_out(self, home: Path) -> None:
        """Set it up for whoever has that HOME."""
        folder = home / ".aws"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in ("config", "credentials"):
            (folder / name).write_text((self.aws / name).read_text())

    def store(self) -> Store:
        """As this computer sees it."""
        return Store(address(URL))

    def contents(self) -> dict[str, bytes]:
        """Everything in it."""
        objects = Objects(URL)
        return {name: objects.read(name) for name in objects.sizes("")}


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """A server of its own, which this process uses while entered."""
    aws = folder / "aws"
    aws.mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        made = Bucket(int(server.stdout.readline()), aws)
        (aws / "config").write_text(
            f"[default]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{made.port}\n"
        )
        (aws / "credentials").write_text(
            "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
        )
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in made.environ.items():
                patch.setenv(name, value)
            import s3fs

            s3fs.S3FileSystem(skip_instance_cache=True).mkdir("lab")
            yield made
    finally:
        server.stdin.close()
        server.wait(20)
        server.stdout.close()
