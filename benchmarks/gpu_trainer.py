"""One point of the grid with transformers' Trainer and PEFT: see gpu_grid.py."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.gpu_grid import GIB, Outcome, Point, config_of

WARM_UP, LEAST, MOST, LONG_S = 3, 5, 20, 2.5
"""Steps before the clock counts; timed steps at least and at most; seconds that suffice."""

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:False")


class Clock(TrainerCallback):  # type: ignore[misc]
    """The seconds of each step, the device caught up; ends the training when it has enough."""

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self._last: float | None = None
        self._seen = 0

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        """A step is over."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._seen += 1
        if self._last is not None and self._seen > WARM_UP:
            self.steps_s.append(now - self._last)
        self._last = now
        enough = len(self.steps_s) >= LEAST and sum(self.steps_s) >= LONG_S
        control.should_training_stop = enough or len(self.steps_s) >= MOST


class Rows(torch.utils.data.Dataset):  # type: ignore[misc]
    """Random tokens, each row as long as asked for."""

    def __init__(self, tokens: int, vocabulary: int) -> None:
        self._tokens, self._vocabulary = tokens, vocabulary

    def __len__(self) -> int:
        """More than is ever read."""
        return 4096

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One row; the labels are its tokens."""
        drawn = torch.Generator().manual_seed(index)
        row = torch.randint(0, self._vocabulary, (self._tokens,), generator=drawn)
        return {"input_ids": row, "labels": row.clone(), "attention_mask": torch.ones_like(row)}


def measure(point: Point, small: bool) -> Outcome:
    """Train a few steps, and say what they took."""
    cuda = torch.cuda.is_available()
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    outcome = Outcome()
    try:
        outcome.steps_s = _train(point, small)
    except torch.OutOfMemoryError:
        outcome = Outcome(fits=False, notes="out of memory")
    if cuda and outcome.fits:
        outcome.alloc = torch.cuda.max_memory_allocated() / GIB
        outcome.reserved = torch.cuda.max_memory_reserved() / GIB
        free, total = torch.cuda.mem_get_info()
        # What the allocator holds only grows: what the device holds now is its peak.
        outcome.device = (total - free) / GIB
    return outcome


def _train(point: Point, small: bool) -> list[float]:
    changes: dict[str, int] = {}
    if small:
        changes |= {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256}
        changes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
        changes |= {"vocab_size": 512}
    raw = config_of(point.model, **changes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if point.liger:
        _apply_liger(raw["model_type"])
    config = AutoConfig.for_model(**raw)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    if point.method == "qlora":
        _quantise(model)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=point.checkpoint,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    if point.method != "full":
        model = get_peft_model(
            model,
            LoraConfig(
                r=point.rank,
                lora_alpha=2 * point.rank,
                target_modules=point.targets.split("+"),
                task_type="CAUSAL_LM",
            ),
        )
        if point.checkpoint:
            model.enable_input_require_grads()
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=point.batch,
            gradient_accumulation_steps=point.accumulate,
            gradient_checkpointing=point.checkpoint,
            gradient_checkpointing_kwargs={"use_reentrant": False} if point.checkpoint else None,
            bf16=device == "cuda",
            optim=point.optimizer if device == "cuda" else "adamw_torch",
            max_steps=WARM_UP + (2 if small else MOST),
            learning_rate=1e-5,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            use_cpu=device == "cpu",
            remove_unused_columns=False,
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Rows(64 if small else point.tokens, raw["vocab_size"]),
            callbacks=[clock],
        )
        trainer.train()
    return clock.steps_s


def _apply_liger(kind: str) -> None:
    from liger_kernel import transformers as liger  # noqa: PLC0415 - on GPUs only

    getattr(liger, f"apply_liger_kernel_to_{kind}")(
        rope=True, swiglu=True, rms_norm=True, fused_linear_cross_entropy=True
    )


def _quantise(model: Any) -> None:
    """Every linear layer but the head to nf4 with double quantisation, as from_pretrained does."""
    import bitsandbytes as bnb  # noqa: PLC0415 - not needed for the other methods
    from transformers.utils.quantization_config import BitsAndBytesConfig  # noqa: PLC0415

    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name.endswith("lm_head"):
            continue
        device = module.weight.device
        made = bnb.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        made.weight = bnb.nn.Params4bit(  # noqa: SLF001 - `to` quantises the processor's only
            module.weight.data.to("cpu") if device.type == "cpu" else module.weight.data,
            requires_grad=False,
            compress_statistics=True,
            quant_type="nf4",
            module=made,
        )._quantize(device)
        if module.bias is not None:
            made.bias = module.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made)
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    model.config.quantization_config = config
    from transformers.quantizers import AutoHfQuantizer  # noqa: PLC0415

    model.hf_quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    model.quantization_method = "bitsandbytes"
