"""Numbers that cannot be meant, and names that stand for nothing.

axolotl's models take any number and any name; what then fails, or silently does nothing, is the
trainer, in the middle of a run that is paid for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.bundle import modules
from launcher.preflight.figures import number
from launcher.preflight.keys import has_user_plugins, known
from launcher.preflight.problem import Look, Problem
from launcher.wording import closest, did_you_mean, quoted


@dataclass(frozen=True)
class Range:
    """Numbers that make sense: from `low` to `high`, each with or without itself.

    then   what axolotl would do with another
    usual  a value to paste
    """

    low: float
    usual: str
    then: str
    open_low: bool = False
    high: float | None = None
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether it lies inside; what is not a number does not."""
        above = value > self.low if self.open_low else value >= self.low
        if self.high is None:
            return above and value != float("inf")
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.open_low else f"at least {self.low:g}"
        if self.high is None:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


_STEP = "axolotl takes it, and fails before the first step"
_NOTHING = "axolotl takes it, and nothing is learnt"
_WRONG = "axolotl takes it, and the trainer fails or ignores it"

RANGES: dict[str, Range] = {
    "micro_batch_size": Range(1, "1", _STEP),
    "gradient_accumulation_steps": Range(1, "4", _STEP),
    "batch_size": Range(1, "8", _STEP),
    "eval_batch_size": Range(1, "1", "axolotl takes it, and the first evaluation fails"),
    "sequence_len": Range(1, "2048", "axolotl drops every row as too long"),
    "eval_sequence_len": Range(1, "2048", "axolotl drops every row as too long"),
    "num_epochs": Range(0, "3", _NOTHING, open_low=True),
    "max_steps": Range(1, "100", _NOTHING),
    "learning_rate": Range(0, "0.0002", _NOTHING, open_low=True),
    "weight_decay": Range(0, "0.01", _WRONG),
    "max_grad_norm": Range(0, "1.0", _WRONG),
    "warmup_steps": Range(0, "10", _WRONG),
    "warmup_ratio": Range(0, "0.05", _STEP, high=1),
    "cosine_min_lr_ratio": Range(0, "0.1", _WRONG, high=1),
    "cosine_constant_lr_ratio": Range(0, "0.8", _WRONG, high=1),
    "adam_beta1": Range(0, "0.9", _STEP, high=1, open_high=True),
    "adam_beta2": Range(0, "0.95", _STEP, high=1, open_high=True),
    "adam_epsilon": Range(0, "0.00000001", _STEP),
    "lora_r": Range(1, "16", _STEP),
    "lora_alpha": Range(0, "32", "the adapter would be multiplied by nothing", open_low=True),
    "lora_dropout": Range(0, "0.05", _STEP, high=1, open_high=True),
    "loraplus_lr_ratio": Range(0, "16", _WRONG, open_low=True),
    "neftune_noise_alpha": Range(0, "5", "axolotl refuses it", open_low=True),
    "val_set_size": Range(0, "0.05", "axolotl fails when it splits the data"),
    "logging_steps": Range(0, "1", _WRONG, open_low=True),
    "save_steps": Range(0, "100", _WRONG, open_low=True),
    "eval_steps": Range(0, "100", _WRONG, open_low=True),
    "saves_per_epoch": Range(1, "1", _WRONG),
    "evals_per_epoch": Range(1, "1", _WRONG),
    "save_total_limit": Range(1, "3", "no checkpoint would be left to go on from"),
    "early_stopping_patience": Range(1, "3", _WRONG),
    "dataset_num_proc": Range(1, "8", "axolotl fails when it reads the data"),
    "dataset_processes": Range(1, "8", "axolotl fails when it reads the data"),
    "dataloader_num_workers": Range(0, "4", _STEP),
    "dataloader_prefetch_factor": Range(1, "2", _STEP),
    "seed": Range(0, "42", _WRONG),
    "rl_beta": Range(0, "0.1", _WRONG),
    "generation_max_new_tokens": Range(1, "128", _WRONG),
    "num_generation_samples": Range(0, "3", _WRONG),
    "tensor_parallel_size": Range(1, "1", _STEP),
    "context_parallel_size": Range(1, "1", _STEP),
    "sample_packing_bin_size": Range(1, "200", _WRONG),
    "pad_to_multiple_of": Range(1, "8", _STEP),
}

_OFF_WITH_ZERO = {
    *("saves_per_epoch", "evals_per_epoch", "save_steps", "eval_steps", "early_stopping_patience"),
    *("save_total_limit", "context_parallel_size", "tensor_parallel_size", "batch_size"),
    "dataloader_prefetch_factor",
}
"""axolotl asks of these only whether they are anything: 0 is the same as leaving them out."""

_FINDS_ITS_OWN_RATE = ("prodigy", "schedule_free", "adafactor", "polora", "muon", "sgd", "sinkgd")


def impossible_numbers(look: Look) -> Iterator[Problem]:
    """Numbers outside the range in which they do anything."""
    for key, allowed in RANGES.items():
        value = number(look.config.get(key))
        if value is None or allowed.holds(value):
            continue
        none = (value == 0 and key in _OFF_WITH_ZERO) or (key == "max_steps" and value == -1)
        if not none:
            yield look.error(
                (key,),
                f"{key} is {value:g}, and must be {allowed}: {allowed.then}",
                f"for example: {key}: {allowed.usual}",
            )
    yield from _a_whole_data_set(look)
    yield from _a_slip_of_the_rate(look)


def _a_whole_data_set(look: Look) -> Iterator[Problem]:
    if number(look.config.get("val_set_size")) == 1:
        yield look.error(
            ("val_set_size",),
            "val_set_size is 1, which is all of the data: axolotl fails when it splits them",
            "a share, or a number of rows above 1: val_set_size: 0.05",
        )


def _a_slip_of_the_rate(look: Look) -> Iterator[Problem]:
    rate = number(look.config.get("learning_rate"))
    text = look.config.get("learning_rate")
    if isinstance(text, str) and rate is None:
        yield look.error(
            ("learning_rate",),
            f"learning_rate is {quoted(text)}, and must be a number: axolotl refuses it",
            "for example: learning_rate: 0.0002",
        )
    optimizer = str(look.config.get("optimizer") or "")
    own = any(name in optimizer for name in _FINDS_ITS_OWN_RATE)
    if rate is not None and rate >= 0.5 and not own:
        yield look.warning(
            ("learning_rate",),
            f"learning_rate is {rate:g}: steps of that size undo what the model knows",
            "is an exponent missing? usual for LoRA: 0.0002, for all weights: 0.00001",
        )


def unknown_names(look: Look) -> Iterator[Problem]:
    """An optimizer or a schedule that nobody has: axolotl finds out once the model is there."""
    for key, names in (("optimizer", "optimizers"), ("lr_scheduler", "schedulers")):
        value = look.config.get(key)
        if not isinstance(value, str) or value in known()[names]:
            continue
        make = look.warning if has_user_plugins(look) else look.error
        usual = "adamw_torch_fused" if key == "optimizer" else "cosine"
        begins = usual.startswith(value)
        near = "" if begins else did_you_mean(value, known()[names])
        yield make(
            (key,),
            f"there is no {key} {quoted(value)}: axolotl fails after it has loaded the model",
            near or f"a usual one: {key}: {usual}",
        )


def unknown_types(look: Look) -> Iterator[Problem]:
    """A data set's type that axolotl has no strategy for."""
    if any(look.config.get(key) for key in ("rl", "reward_model", "process_reward_model")):
        return
    here = {named.key for named in modules.find(look.config, look.recipe.base_dir) if named.files}
    names = known()["strategies"]
    for at, entry in look.datasets():
        kind = entry.get("type")
        if at[0] == "pretraining_dataset" or not isinstance(kind, str) or not kind:
            continue
        base = kind.split(":")[0]
        mine = (*at, "type") in here or base.startswith(("sharegpt", "bradley_terry"))
        if base in names or base.removesuffix(".load") in names or mine:
            continue
        yield _no_type(look, (*at, "type"), base, names)


def _no_type(look: Look, at: tuple[str | int, ...], base: str, names: list[str]) -> Problem:
    message = f"axolotl has no data set type {quoted(base)}, and fails when it reads the data"
    if "." in base and closest(base, names) is None:
        return look.warning(at, message, "unless a module of that name is in the job's environment")
    usual = [name for name in names if "." not in name]
    return look.error(
        at, message, did_you_mean(base, names) or f"there are {', '.join(usual[:12])}, …"
    )
