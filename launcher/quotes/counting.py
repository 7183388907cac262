"""Tokens counted with the recipe's own tokenizer and template, in the managed environment, once.

wanted = counting.of(recipe)          # what there is to count, or a phrase that says why not
wanted.known()                        # quick: what was counted before, or None
wanted.count()                        # half a minute: kept, by the content of all it depends on

The network is not asked and no code of the recipe's is run: a tokenizer that is not on this
computer, or a format of the user's own, is why not.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from backends.errors import Refused
from launcher.environment import cache_dir, inspect, python_of
from launcher.environment.cache import made
from launcher.quotes.rows import Counted
from launcher.recipe import Recipe, references
from launcher.recipe.references import Fate, Kind

MOST_ROWS = 4000
"""Of a data set, from all over it: the mean of so many lengths is within about 2 %."""

MOST_BYTES = 64 << 20
"""A larger file is sampled without being read whole."""

HASHED_BYTES = 32 << 20
"""A larger file is known by its place, size and time, not by its content."""

TIMEOUT_S = 600

_WORKER = Path(__file__).resolve().parent.parent / "workers" / "count_tokens.py"

_KEYS = (
    *("revision_of_model", "tokenizer_type", "tokenizer_use_fast", "tokenizer_legacy"),
    *("tokenizer_use_mistral_common", "special_tokens", "tokens", "added_tokens_overrides"),
    *("chat_template", "chat_template_jinja", "chat_template_kwargs", "default_system_message"),
    *("eot_tokens", "sequence_len", "excess_length_strategy", "min_sample_len", "rl"),
    *("reward_model", "process_reward_model", "train_on_inputs", "datasets", "seed"),
)
"""What the number of tokens depends on; the rest of a config is not looked at."""

_NEEDED = {
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-4,
    "bf16": False,
    "fp16": False,
}
"""What axolotl wants to be told, and no token depends on."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")

_OF_A_TOKENIZER = frozenset(
    {*_VOCABULARIES, "tokenizer_config.json", "merges.txt", "special_tokens_map.json"}
    | {"added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json"}
)


@dataclass(frozen=True)
class Wanted:
    """Data that can be counted here."""

    key: str
    config: dict[str, Any]
    cwd: Path
    python: Path

    @property
    def _kept(self) -> Path:
        return cache_dir() / "tokens" / f"{self.key}.json"

    def known(self) -> list[Counted] | str | None:
        """What was counted; a phrase where that failed; None where it was never tried."""
        try:
            return _read(self._kept, self._kept.stat().st_mtime_ns)
        except OSError:
            return None

    def count(self) -> list[Counted] | str:
        """Count now. What comes of it is kept, a failure of axolotl's too, unless it may pass."""
        try:
            return self._counted_now()
        except Refused as error:
            return f"it could not be counted: {error.message}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"it could not be counted: {type(error).__name__}"

    def _counted_now(self) -> list[Counted] | str:
        folder = made(self._kept.parent)
        request = {"config": self.config, "rows": MOST_ROWS, "bytes": MOST_BYTES}
        with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as work:
            asked, answer = Path(work, "request.json"), Path(work, "answer.json")
            asked.write_text(json.dumps(request, default=str))
            argv = [str(self.python), "-I", str(_WORKER), str(asked), str(answer)]
            ended = subprocess.run(
                argv,
                cwd=self.cwd,
                env=_surroundings(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            if not answer.exists():
                return f"it could not be counted: the counting ended with {ended.returncode}"
            if (passing := _passing(answer)) is not None:
                return passing
            answer.replace(self._kept)
        return _read(self._kept, self._kept.stat().st_mtime_ns)


def _surroundings() -> dict[str, str]:
    from launcher.environment import uvtool

    return {
        **uvtool.surroundings(),
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


def _passing(answer: Path) -> str | None:
    """What went wrong, where it may go well another time; None where it is to be kept."""
    try:
        told = json.loads(answer.read_text())
        return _failed(told) if told.get("passing") else None
    except (ValueError, AttributeError):
        return None


def _failed(told: dict[str, Any]) -> str:
    return f"axolotl could not: {told['failed']}"


def _counted(told: dict[str, Any]) -> Counted:
    """One data set of an answer. Raises ValueError for what cannot have been counted."""
    rows, looked, lengths = told["rows"], told["looked"], told["lengths"]
    numbers = [rows, looked, *lengths]
    if not all(type(n) in (int, float) and 0 <= n < _NO_NUMBER for n in numbers) or looked <= 0:
        raise ValueError(told)
    return Counted(lengths, int(rows), max(1.0, rows / looked))


_NO_NUMBER = 1 << 53
"""No data set has so many rows, and no row so many tokens."""


@cache
def _read(kept: Path, changed_ns: int) -> list[Counted] | str:
    del changed_ns
    try:
        told = json.loads(kept.read_text())
        if told.get("failed"):
            return _failed(told)
        sets = [_counted(each) for each in told["sets"] if each["lengths"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        kept.unlink(missing_ok=True)
        return "what was counted could not be read again, and was removed"
    return sets or "no row is left after axolotl's own checks"


def of(recipe: Recipe) -> Wanted | str:
    """What of a recipe is to be counted; a phrase where it cannot be, on this computer."""
    config = recipe.config
    if config.get("processor_type") or config.get("is_multimodal"):
        return "images are not counted"
    paths = list(_files(recipe))
    if not paths:
        return "no data lie here"
    tokenizer = _tokenizer(recipe)
    if isinstance(tokenizer, str):
        return tokenizer
    name, of_tokenizer = tokenizer
    installed = next((each for each in inspect() if each.state == "ready"), None)
    if installed is None:
        return "axolotl is not installed here: ftlaunch env make"
    asked = {key: config[key] for key in _KEYS if config.get(key) is not None}
    asked |= {**_NEEDED, "base_model": name, "tokenizer_config": name}
    if pretraining := _pretraining(config):
        asked["datasets"] = pretraining
    digest = hashlib.sha256(_WORKER.read_bytes())
    digest.update(json.dumps(asked, sort_keys=True, default=str).encode())
    digest.update(f"{installed.name} {of_tokenizer} {MOST_ROWS} {MOST_BYTES}".encode())
    for path in paths:
        digest.update(_identity(path).encode())
    key = digest.hexdigest()[:32]
    return Wanted(key, asked, recipe.base_dir, python_of(installed.prefix))


def _pretraining(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What is streamed for pretraining, as data sets of plain text."""
    given = config.get("pretraining_dataset")
    entries = given if isinstance(given, list) else [{"path": given}] if given else []
    return [
        {
            **{key: entry[key] for key in ("path", "data_files", "split") if entry.get(key)},
            "type": "completion",
            "field": entry.get("text_column") or "text",
        }
        for entry in entries
        if isinstance(entry, dict)
    ]


def _files(recipe: Recipe) -> Iterator[Path]:
    """The data and the templates that the number of tokens depends on; nothing if some lack."""
    found: list[Path] = []
    for ref in references.find(recipe.config, recipe.base_dir):
        trained = ref.kind is Kind.DATA and ref.key[0] in ("datasets", "pretraining_dataset")
        if trained and ref.fate is not Fate.LOCAL:
            return
        if trained or ref.kind is Kind.TEMPLATE:
            found += ref.paths
    for path in found:
        yield from sorted(path.rglob("*")) if path.is_dir() else [path]


def _identity(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return f"{path}: gone"
    if not path.is_file() or about.st_size > HASHED_BYTES:
        return f"{path}: {about.st_size} {about.st_mtime_ns}"
    return _content(path, about.st_size, about.st_mtime_ns)


@cache
def _content(path: Path, size_bytes: int, changed_ns: int) -> str:
    del size_bytes, changed_ns
    try:
        return f"{path.name}: {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        return f"{path}: {error}"


def _tokenizer(recipe: Recipe) -> tuple[str, str] | str:
    """How the worker names the tokenizer, and its identity; a phrase where it is not here."""
    config = recipe.config
    base = str(config.get("base_model"))
    name = str(config.get("tokenizer_config") or base)
    absent = f"the tokenizer of {name} is not on this computer"
    packaged = recipe.launch.models.get(base) if name == base else None
    folder: Path | None = references.here(name, recipe.base_dir)
    if packaged is not None:
        from launcher import models

        folder = models.present(packaged)
        name = str(folder)
    elif folder is not None and not _is_folder(folder):
        folder = _from_hub(name, str(config.get("revision_of_model") or "main"))
    if folder is None or not any((folder / each).is_file() for each in _VOCABULARIES):
        return absent
    parts = sorted(each for each in folder.iterdir() if each.name in _OF_A_TOKENIZER)
    return name, "\n".join(_identity(each) for each in parts)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what cannot be a path at all
        return False


def _from_hub(name: str, revision: str) -> Path | None:
    """Where the hub's own cache has a model, if it has."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    hub = os.environ.get("HF_HUB_CACHE") or f"{home}/hub"
    model = Path(hub).expanduser() / f"models--{name.replace('/', '--')}"
    try:
        commit = (model / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        commit = revision
    folder = model / "snapshots" / commit
    return folder if _is_folder(folder) else None
