"""One point of the grid with axolotl's own command line, a process each: see gpu_grid.py.

This file is also the axolotl plugin (`plugins: [benchmarks.gpu_axolotl.Measure]`) that puts the
clock of `trainer` into axolotl's trainer and writes down the peaks.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_grid import GIB, ROOT, Outcome, Point, aside, config_of

WORK = Path(os.environ.get("GPU_GRID_WORK", "/tmp/gpu-grid"))
TOKENIZER = ROOT / "configs" / "tiny" / "model"
ROWS, LIMIT_S = 128, 240

try:
    from axolotl.integrations.base import BasePlugin
except ImportError:  # read by the process that starts axolotl
    BasePlugin = object


class Measure(BasePlugin):  # type: ignore[misc]
    """Peaks and steps of one training, into the file that the variable names."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:  # noqa: ARG002
        """The clock; axolotl's own reports stay as they are."""
        import torch  # noqa: PLC0415 - axolotl has it by now

        from benchmarks.gpu_trainer import Clock  # noqa: PLC0415

        into = Path(os.environ["GPU_GRID_RESULT"])

        class Writer(Clock):
            def on_train_end(self, *_: Any, **__: Any) -> None:
                peaks: dict[str, Any] = {"steps_s": self.steps_s}
                if torch.cuda.is_available():
                    free, total = torch.cuda.mem_get_info()
                    peaks["alloc"] = torch.cuda.max_memory_allocated() / GIB
                    peaks["reserved"] = torch.cuda.max_memory_reserved() / GIB
                    peaks["device"] = (total - free) / GIB
                into.write_text(json.dumps(peaks), encoding="utf-8")

        return [Writer()]


def measure(point: Point, small: bool) -> Outcome:
    """Train a few steps with `axolotl train`, and say what they took."""
    model: Path = aside(_model, point, small)
    tokens = 64 if small else point.tokens
    vocabulary = 512 if small else config_of(point.model)["vocab_size"]
    recipe = WORK / "recipe.json"  # JSON is YAML
    result = WORK / "result.json"
    result.unlink(missing_ok=True)
    shutil.rmtree(WORK / "out", ignore_errors=True)
    keys = _recipe(point, model, _data(tokens, vocabulary), tokens)
    if small:  # on a CPU: no bf16, no Triton
        keys |= {"bf16": False, "tf32": False, "optimizer": "adamw_torch"}
        keys |= {f"lora_{part}_kernel": False for part in ("mlp", "qkv", "o")}
    recipe.write_text(json.dumps(keys, indent=1), encoding="utf-8")
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        ),
        "GPU_GRID_RESULT": str(result),
        "HF_HUB_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "WANDB_MODE": "disabled",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "axolotl.cli.main", "train", str(recipe), "--launcher", "python"],
        cwd=WORK,
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if result.exists():
        return Outcome(**json.loads(result.read_text(encoding="utf-8")))
    if "OutOfMemoryError" in ran.stderr + ran.stdout:
        return Outcome(fits=False, notes="out of memory")
    raise RuntimeError((ran.stdout + ran.stderr)[-3000:])


def _recipe(point: Point, model: Path, data: Path, tokens: int) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "base_model": str(model),
        "plugins": ["benchmarks.gpu_axolotl.Measure"],
        "datasets": [{"path": str(data), "ds_type": "json", "type": None}],
        "dataset_prepared_path": str(WORK / f"prepared-{point.model.replace('/', '-')}-{tokens}"),
        "sequence_len": tokens,
        "pad_to_sequence_len": True,
        "sample_packing": False,
        "micro_batch_size": point.batch,
        "gradient_accumulation_steps": point.accumulate,
        "gradient_checkpointing": point.checkpoint,
        "max_steps": 12,
        "num_epochs": 1,
        "learning_rate": 1e-5,
        "optimizer": point.optimizer,
        "bf16": True,
        "tf32": True,
        "attn_implementation": "sdpa",
        "logging_steps": 1,
        "save_strategy": "no",
        "output_dir": str(WORK / "out"),
    }
    if point.method != "full":
        recipe |= {
            "adapter": point.method,
            "load_in_4bit": point.method == "qlora",
            "lora_r": point.rank,
            "lora_alpha": 2 * point.rank,
            "lora_target_modules": point.targets.split("+"),
        }
    if point.liger:
        recipe["plugins"].append("axolotl.integrations.liger.LigerPlugin")
        recipe |= {f"liger_{name}": True for name in ("rope", "rms_norm", "glu_activation")}
        recipe["liger_fused_linear_cross_entropy"] = True
    return recipe


def _model(point: Point, small: bool) -> Path:
    """A folder with random weights of this shape and a small tokenizer; one at a time on disk."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    folder: Path = WORK / "models" / (point.model.replace("/", "-") + "-small" * small)
    if (folder / "config.json").exists():
        return folder
    shutil.rmtree(WORK / "models", ignore_errors=True)
    changes: dict[str, int] = {}
    if small:
        changes |= {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256}
        changes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
        changes |= {"vocab_size": 512}
    config = AutoConfig.for_model(**config_of(point.model, **changes))
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    part = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(part, max_shard_size="50GB")
    for file in TOKENIZER.glob("*token*"):
        shutil.copy(file, part)
    part.rename(folder)
    return folder


def _data(tokens: int, vocabulary: int) -> Path:
    """Rows of ready-made tokens, each exactly as long as asked for."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"rows-{tokens}-{vocabulary}.jsonl"
    if not path.exists():
        drawn = random.Random(tokens)
        with path.open("w", encoding="utf-8") as out:
            for _ in range(ROWS):
                row = [drawn.randrange(vocabulary) for _ in range(tokens)]
                whole = {"input_ids": row, "attention_mask": [1] * tokens, "labels": row}
                out.write(json.dumps(whole) + "\n")
    return path
