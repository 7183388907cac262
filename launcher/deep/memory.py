"""Answers of axolotl that are kept, under a digest of all they follow from.

The verdict on the config follows from every key and the GPU. What becomes of the rows follows from
the files, and from every key but those that are known to touch neither text nor tokens: a key that
is not known here counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.bundle import Bundle
from launcher.environment import cache
from launcher.environment.cache import made

__all__ = ["MOST_KEPT", "Question", "keep", "made", "recall"]

MOST_KEPT = 200
"""Answers; the oldest go."""

NOTHING_TO_DO_WITH_ROWS = frozenset({
    "learning_rate", "lr_scheduler", "lr_scheduler_kwargs", "cosine_min_lr_ratio", "warmup_steps",
    "warmup_ratio", "optimizer", "optim_args", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "max_grad_norm", "num_epochs", "max_steps", "micro_batch_size",
    "gradient_accumulation_steps", "eval_batch_size", "gradient_checkpointing",
    "activation_offloading", "logging_steps", "save_steps", "save_strategy", "save_total_limit",
    "saves_per_epoch", "eval_steps", "eval_strategy", "evals_per_epoch", "lora_r", "lora_alpha",
    "lora_dropout", "lora_target_modules", "lora_target_linear", "lora_modules_to_save",
    "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "peft_ensure_weight_tying",
    "load_in_4bit", "load_in_8bit", "bf16", "fp16", "fp8", "tf32", "flash_attention",
    "wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model",
    "dynamic_checkpoint", "output_dir", "dataset_prepared_path",
})  # fmt: skip


@dataclass(frozen=True)
class Question:
    """All that an answer follows from.

    environment  the name of the managed environment, which is its lock's digest
    worker       our script that asks
    bundle       every local file that the recipe refers to, with its digest
    """

    environment: str
    worker: Path
    config: dict[str, Any]
    capability: tuple[int, int] | None
    count: int
    bundle: Bundle

    @property
    def verdict_key(self) -> str:
        """Of the validation."""
        return self._digest("verdict", self.config, (self.capability, self.count))

    @property
    def rows_key(self) -> str:
        """Of the rows."""
        kept = {k: v for k, v in self.config.items() if k not in NOTHING_TO_DO_WITH_ROWS}
        return self._digest("rows", kept, ())

    def _digest(self, kind: str, config: Mapping[str, Any], where: tuple[Any, ...]) -> str:
        files = sorted((str(file.at), file.sha256) for file in self.bundle.files)
        caches = sorted((str(each.at), each.key) for each in self.bundle.caches)
        worker = hashlib.sha256(self.worker.read_bytes()).hexdigest()
        what = [kind, self.environment, worker, config, where, files, caches]
        return hashlib.sha256(json.dumps(what, default=repr).encode()).hexdigest()[:32]


def recall(question: Question) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The kept verdict and the kept rows; None for what is not there."""
    return _read(question.verdict_key), _read(question.rows_key)


def keep(question: Question, verdict: dict[str, Any], rows: dict[str, Any]) -> None:
    """Keep an answer. What failed may go better tomorrow (a network, a disk), and is not kept."""
    _write(question.verdict_key, {"refused": verdict["refused"], **_NO_ROWS})
    if not verdict["refused"] and not rows["failed"]:
        _write(question.rows_key, rows)
    kept = sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-MOST_KEPT]:
        path.unlink(missing_ok=True)


_NO_ROWS: dict[str, Any] = {"failed": "", "datasets": [], "samples": []}


def _folder() -> Path:
    return cache.cache_dir() / "deep"


def _read(key: str) -> dict[str, Any] | None:
    try:
        found = json.loads((_folder() / f"{key}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= {"refused", "datasets"} else None


def _write(key: str, answer: dict[str, Any]) -> None:
    path = made(_folder()) / f"{key}.json"
    with contextlib.suppress(OSError):  # a full disk costs the next look twenty seconds, no more
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(answer), "utf-8")
        partial.replace(path)
