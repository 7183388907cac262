"""The address of a bucket: what it may be, and which library reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backends.errors import BadInput

_URL = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<rest>[^/\s?#@]+(@[^/\s?#@]+)?(/[^\s?#]*)?)")
_S3, _GS, _AZ = ("s3fs", "s3.txt"), ("gcsfs", "gs.txt"), ("adlfs", "az.txt")
_KINDS = {"s3": _S3, "gs": _GS, "gcs": _GS, "az": _AZ, "abfs": _AZ, "abfss": _AZ}

HOW = "give one with --store s3://BUCKET/PREFIX (gs:// and az:// as well), or in a recipe with "
HOW += "hardware: {store: …}"


@dataclass(frozen=True)
class Address:
    """Where a user keeps jobs.

    module  the file system's library, a module and a distribution of the same name
    pins    the file of `bucket` that pins it and what it needs
    """

    url: str
    module: str
    pins: str


def address(url: str) -> Address:
    """What the user gave. Raises BadInput for what is no bucket's address."""
    found = _URL.fullmatch(url)
    if found is None:
        raise BadInput(
            f"{url!r} is no bucket's address",
            hint="one is s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
        )
    if found["scheme"] not in _KINDS:
        raise BadInput(
            f"{url!r} is in no kind of bucket that is known here",
            hint=f"known are {', '.join(f'{name}://' for name in _KINDS)}",
        )
    if "@" in found["rest"] and ":" in found["rest"].partition("@")[0]:
        raise BadInput(
            "the address given with --store has a password in it, and it is written down",
            hint="leave it out: credentials are found as the cloud's own programs find them",
        )
    module, pins = _KINDS[found["scheme"]]
    return Address(url.rstrip("/"), module, pins)
