"""What a config refers to outside itself: data, models, templates, modules; here, or on a hub.

Read in axolotl 0.19.0: a data set's path is local if it exists relative to the working directory,
and only then is it looked for on the hub, in a bucket, behind a URL.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.recipe.keypath import KeyPath


class Kind(StrEnum):
    """What a reference is for."""

    DATA = "data set"
    TEMPLATE = "chat template"
    DEEPSPEED = "deepspeed config"
    SETTINGS = "settings file"
    MODEL = "model"
    ADAPTER = "adapter"
    CHECKPOINT = "checkpoint"
    MODULE = "Python module"
    INCLUDE = "included file"
    UPLOAD = "upload"


class Fate(StrEnum):
    """Where the thing referred to is."""

    LOCAL = "local"
    HUB = "hub"
    REMOTE = "remote"
    """A bucket or a URL."""
    MISSING = "missing"
    """It is a path, and there is nothing there."""


@dataclass(frozen=True)
class Reference:
    """One value of the config that names something.

    text   as the config has it
    paths  what it is here, when `fate` is LOCAL: one path, or a glob's matches
    """

    key: KeyPath
    text: str
    kind: Kind
    fate: Fate
    paths: tuple[Path, ...] = ()


_DATASETS = ("datasets", "test_datasets", "pretraining_dataset")
_MODELS = (
    ("base_model", Kind.MODEL),
    ("base_model_config", Kind.MODEL),
    ("cls_model_config", Kind.MODEL),
    ("tokenizer_config", Kind.MODEL),
    ("lora_model_dir", Kind.ADAPTER),
)
_FILES = (
    ("deepspeed", Kind.DEEPSPEED),
    ("fsdp_config", Kind.SETTINGS),
    ("accelerator_config", Kind.SETTINGS),
    ("resume_from_checkpoint", Kind.CHECKPOINT),
)
_UPLOADS = ("hub_model_id", "push_dataset_to_hub")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REMOTE = re.compile(r"(https?|s3|gs|gcs|az|abfs|adl|oci|hf)://")
_FILE_ENDINGS = frozenset(
    {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt"}
    | {".gz", ".bz2", ".xz", ".zst", ".zip", ".jinja", ".jinja2", ".j2", ".yml", ".yaml"}
    | {".bin", ".pt", ".pth", ".safetensors", ".gguf", ".py"}
)
BUILDERS = frozenset({"json", "csv", "parquet", "arrow", "text"})
"""Formats that older axolotl took as a data set's path, with the files in `data_files`."""


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form `name` or `owner/name`, and not that of a file."""
    ending = PurePosixPath(text).suffix.lower()
    return bool(_HUB_ID.fullmatch(text)) and ending not in _FILE_ENDINGS and ".." not in text


def is_remote(text: str) -> bool:
    """Whether `text` is a URL or names a bucket."""
    return bool(_REMOTE.match(text))


def expanded(text: str) -> str:
    """The text with a leading `~` replaced; an unknown `~user` stays as it is."""
    return os.path.expanduser(text)  # noqa: PTH111


def here(text: str, base: Path) -> Path:
    """The local path that `text` means when the working directory is `base`."""
    return base / expanded(text)


def exists(path: Path) -> bool:
    """Whether there is something; False too for what cannot be a path at all."""
    return os.path.lexists(path) if "\0" not in str(path) else False


def is_vast(path: Path) -> bool:
    """Whether a folder is the whole disk, or the user's home, or holds it: never what was meant."""
    whole = Path(os.path.realpath(path))
    home = Path(os.path.realpath(expanded("~")))
    return home.is_relative_to(whole)


def find(config: dict[str, Any], base: Path) -> list[Reference]:
    """Everything the config refers to, were `base` its working directory; modules are not here."""
    return [
        *_of_datasets(config, base),
        *_of_template(config, (), base),
        *_of_models(config, base),
        *_of_files(config, base),
    ]


def _of_models(config: dict[str, Any], base: Path) -> Iterator[Reference]:
    for key, kind in _MODELS:
        if isinstance(text := config.get(key), str) and text:
            yield _anywhere((key,), text, kind, base)
    trl = config.get("trl")
    rewards = trl.get("reward_funcs") if isinstance(trl, dict) else None
    for index, text in enumerate(rewards if isinstance(rewards, list) else []):
        if isinstance(text, str) and "/" in text:
            yield _anywhere(("trl", "reward_funcs", index), text, Kind.MODEL, base)
    for key in _UPLOADS:
        if isinstance(text := config.get(key), str) and text:
            yield Reference((key,), text, Kind.UPLOAD, Fate.HUB)


def _of_files(config: dict[str, Any], base: Path) -> Iterator[Reference]:
    for key, kind in _FILES:
        if isinstance(text := config.get(key), str) and text:
            yield _a_path((key,), text, kind, base)


def _of_datasets(config: dict[str, Any], base: Path) -> Iterator[Reference]:
    for key in _DATASETS:
        entries = config.get(key)
        if isinstance(entries, str) and entries:
            yield _anywhere((key,), entries, Kind.DATA, base)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                yield from _of_dataset(entry, (key, index), base)


def _of_dataset(entry: dict[str, Any], at: KeyPath, base: Path) -> Iterator[Reference]:
    yield from _of_template(entry, at, base)
    text = entry.get("path")
    if not isinstance(text, str) or not text or entry.get("type") == "_synthetic":
        return
    inside = list(_texts(entry.get("data_files"), (*at, "data_files")))
    if text in BUILDERS and inside and not exists(here(text, base)):
        yield from (_a_path(key, name, Kind.DATA, base, globs=True) for key, name in inside)
        return
    whole = _anywhere((*at, "path"), text, Kind.DATA, base)
    yield whole
    if whole.fate is Fate.LOCAL and whole.paths[0].is_dir():
        # axolotl resolves these against the working directory, not against the data set's folder
        yield from (_a_path(key, name, Kind.DATA, base, globs=True) for key, name in inside)


def _texts(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str) and value:
        yield at, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*at, index))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, (*at, key))


def _of_template(holder: dict[str, Any], at: KeyPath, base: Path) -> Iterator[Reference]:
    text = holder.get("chat_template_jinja")
    if not isinstance(text, str) or not text:
        return
    found = _a_path((*at, "chat_template_jinja"), text, Kind.TEMPLATE, base)
    # Without a brace it renders nothing of the conversation, so it cannot be a template itself.
    if found.fate is Fate.LOCAL or "{" not in text:
        yield found


def _anywhere(key: KeyPath, text: str, kind: Kind, base: Path) -> Reference:
    """A local path if it exists, else what its form says it is."""
    found = _a_path(key, text, kind, base)
    if found.fate is Fate.LOCAL:
        return found
    if is_remote(text):
        return Reference(key, text, kind, Fate.REMOTE)
    return Reference(key, text, kind, Fate.HUB) if is_hub_id(text) else found


def _a_path(key: KeyPath, text: str, kind: Kind, base: Path, *, globs: bool = False) -> Reference:
    path = here(text, base)
    if exists(path):
        return Reference(key, text, kind, Fate.LOCAL, (path,))
    if globs and glob.has_magic(text) and "\0" not in text:
        pattern = str(Path(glob.escape(str(base))) / expanded(text))
        matches = [Path(each) for each in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
        files = tuple(path for path in matches if path.is_file())
        if files:
            return Reference(key, text, kind, Fate.LOCAL, files)
    return Reference(key, text, kind, Fate.MISSING)
