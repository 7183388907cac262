"""Secrets in two halves, neither of which says anything.

A machine that takes a job up again needs its secrets, and nobody is there to hand them over. In the
bucket they would be read by whoever may read the bucket, and in SkyPilot's task they would lie in
its server's database. So one half lies in each: random bytes, and the secrets combined with them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping

_BLOCK = 1024
MOST_BYTES = 48 << 10
"""One variable of a process holds no more than 128 KiB."""


def split(secrets: Mapping[str, str]) -> tuple[str, bytes]:
    """The half that goes with the task, as text, and the one for the bucket.

    Raises ValueError for more than one variable can hold.
    """
    plain = json.dumps(dict(secrets)).encode("ascii")
    # How long a secret is, is nobody's affair either.
    plain += b" " * (-len(plain) % _BLOCK)
    if len(plain) > MOST_BYTES:
        raise ValueError(len(plain))
    pad = os.urandom(len(plain))
    return base64.b64encode(pad).decode("ascii"), _combined(plain, pad)


def join(task: str, bucket: bytes) -> dict[str, str]:
    """The secrets. Raises ValueError when the halves are not of one whole."""
    pad = base64.b64decode(task)
    if len(pad) != len(bucket):
        raise ValueError("the two halves of the job's secrets are not of one whole")
    found = json.loads(_combined(bucket, pad))
    return {str(name): str(value) for name, value in found.items()}


def _combined(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
