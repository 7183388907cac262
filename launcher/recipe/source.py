"""The text behind what the user typed: a path, an https URL, or the name of a bundled file."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backends.errors import BadInput, FtlaunchError, Refused
from launcher import bundled
from launcher.recipe.references import exists
from launcher.wording import did_you_mean, quoted, shown

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 1 << 20
"""A recipe is a page or two; what is larger is another kind of file."""

_MOST_REDIRECTS = 5
_TIMEOUT_S = 30.0
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_FETCH_YOURSELF = "check the address and this machine's network, or download the file first"


@dataclass(frozen=True)
class Text:
    """A recipe's or config's text.

    label   how messages name it: the path as typed, the URL, or the bundled file's name
    folder  the directory it lies in; None for a URL
    """

    name: str
    label: str
    text: str
    folder: Path | None


def recipe(source: str, *, cwd: Path) -> Text:
    """The recipe that the command line names.

    A path that exists wins over a bundled name, except that a folder is never a recipe.
    Raises BadInput when there is no such thing, Refused when it cannot be read as text.
    """
    if not source.strip():
        raise BadInput(
            "the recipe's name is empty", hint="name a file, or a bundled recipe: quickstart"
        )
    if "://" in source and not exists(cwd / source):
        return _download(source)
    path = _path(source, cwd)
    if not _is_file(path) and (found := bundled.find(bundled.recipes_dir(), source)) is not None:
        return _read(found, label=f"{found.name} (bundled recipe)", name=found.stem, error=Refused)
    if exists(path):
        return _read(path, label=shown(source), name=path.stem, error=BadInput)
    raise BadInput(
        f"there is no recipe {quoted(source)}: no such file, and no bundled recipe of that name",
        hint=_known(source, bundled.recipe_names()),
    )


def config(source: str, *, folder: Path, where: str) -> Text:
    """The axolotl config that a recipe in `folder` names; `where` is the line that does.

    Raises Refused when there is no such thing or it cannot be read.
    """
    if "://" in source:
        try:
            return _download(source)
        except FtlaunchError as error:
            raise Refused(f"{where}: {error.message}", hint=error.hint) from None
    path = _path(source, folder)
    if not _is_file(path) and (found := bundled.find(bundled.configs_dir(), source)) is not None:
        return _read(found, label=f"{found.name} (bundled config)", name=found.stem, error=Refused)
    if exists(path):
        return _read(path, label=shown(source), name=path.stem, error=Refused)
    raise Refused(
        f"{where}: there is no config {quoted(source)}: no such file beside the recipe, "
        "and no bundled config of that name",
        hint=_known(source, bundled.config_names()),
    )


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's raises when a name is too long


def _path(source: str, folder: Path) -> Path:
    path = folder / source
    if source.startswith("~") and not exists(path):
        try:
            return Path(source).expanduser()
        except RuntimeError:
            return path
    return path


def _known(source: str, names: list[str]) -> str:
    listed = f"bundled: {', '.join(names)}" if names else ""
    return " ".join(filter(None, (did_you_mean(source, names), listed)))


def _read(path: Path, *, label: str, name: str, error: Callable[..., FtlaunchError]) -> Text:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise error(
                f"{label} is a folder, and a recipe is a file", hint="name the YAML file inside it"
            )
        if not stat.S_ISREG(kind):
            raise error(f"{label} is not a regular file", hint="save the recipe as a file first")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as problem:
        raise error(f"{label} cannot be read: {problem.strerror}") from None
    if path.suffix.lower() in {".jsonl", ".ndjson"} or _holds_rows(content):
        raise error(
            f"{label} holds data, and a recipe is YAML",
            hint="name it in a recipe (datasets: [{path: …}]), or give it with --data",
        )
    folder = Path(os.path.realpath(path.parent))
    return Text(name=name, label=label, text=_decoded(content, label), folder=folder)


def _holds_rows(content: bytes) -> bool:
    """Whether it is a JSON list of mappings, or lines that are each one: never a recipe."""
    text = content.decode("utf-8", "replace").strip()
    if text[:1] not in {"{", "["}:
        return False
    lines = text.splitlines()
    try:
        first = json.loads(text if text[0] == "[" else lines[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, list) or (len(lines) > 1 and lines[1][:1] == "{")


def _decoded(content: bytes, label: str) -> str:
    if len(content) > MOST_BYTES:
        raise Refused(f"{label} is larger than 1 MiB: that is not a recipe")
    hint = "a recipe is YAML, saved as UTF-8 text"
    if b"\0" in content:
        raise Refused(f"{label} is a binary file, not text", hint=hint)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise Refused(f"{label}:{line}: this is not UTF-8 text", hint=hint) from None
    if not text.strip():
        raise Refused(
            f"{label} is empty", hint="see a whole one with: ftlaunch recipes show quickstart"
        )
    return text


def _download(url: str, *, transport: httpx.BaseTransport | None = None) -> Text:
    """Fetch a recipe; `transport` is httpx's own seam for tests."""
    import httpx  # a fifth of a second, and most recipes are files

    label = shown(url)
    try:
        name = Path(unquote(urlsplit(url).path)).stem or "recipe"
        content = _fetch(url, label, transport)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
        raise BadInput(f"{label} is not a URL that can be fetched") from None
    except httpx.TimeoutException:
        raise Refused(
            f"{label} did not answer within {_TIMEOUT_S:.0f} seconds", hint=_FETCH_YOURSELF
        ) from None
    except httpx.HTTPError as problem:
        raise Refused(f"{label} cannot be fetched: {_why(problem)}", hint=_FETCH_YOURSELF) from None
    if content.lstrip()[:1] == b"<":
        raise Refused(
            f"{label} is a web page, not a recipe",
            hint="take the address of the raw file (on GitHub: the button 'Raw')",
        )
    return Text(name=name, label=label, text=_decoded(content, label), folder=None)


def _why(problem: Exception) -> str:
    """What the network says, without the number that the system gives it."""
    return shown(_ERRNO.sub("", str(problem))) or type(problem).__name__


def _fetch(url: str, label: str, transport: httpx.BaseTransport | None) -> bytes:
    import httpx

    with httpx.Client(timeout=_TIMEOUT_S, transport=transport) as client:
        for _ in range(_MOST_REDIRECTS):
            if not url.startswith("https://"):
                raise BadInput(
                    f"{label} would be read over {shown(url.partition('://')[0])}, "
                    "where anybody on the way can change it",
                    hint="use an https:// address, or download the file first",
                )
            with client.stream("GET", url) as answer:
                if answer.next_request is not None:
                    url = str(answer.next_request.url)
                    continue
                if answer.status_code != httpx.codes.OK:
                    raise BadInput(
                        f"{label} answers {answer.status_code} {answer.reason_phrase}".rstrip(),
                        hint="check the address; a private file must be downloaded first",
                    )
                return _capped(answer)
    raise BadInput(f"{label} redirects more than {_MOST_REDIRECTS} times")


def _capped(answer: httpx.Response) -> bytes:
    content = b""
    for part in answer.iter_bytes():
        content += part
        if len(content) > MOST_BYTES:
            break
    return content
