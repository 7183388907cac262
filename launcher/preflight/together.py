"""Keys that do not go together, as axolotl 0.19's own validation says, and where it says nothing.

Each `Rule` is one sentence about one combination. Read in `schemas/validation.py`, `peft.py` and
`config.py` of axolotl 0.19.0 unless its sentence tells what happens later instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from launcher.preflight.problem import Look, Problem

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One combination.

    key   the key that is named in the message: the one to change
    when  whether the config has the combination
    says  what is wrong, and what axolotl does with it
    fix   what to do
    """

    key: str
    when: Callable[[Config], Any]
    says: str
    fix: str
    severity: Literal["error", "warning"] = "error"


def clashes(look: Look, rules: tuple[Rule, ...]) -> Iterator[Problem]:
    """The rules that the config breaks."""
    for rule in rules:
        if _applies(rule, look.config):
            make = look.error if rule.severity == "error" else look.warning
            yield make((rule.key,), rule.says, rule.fix)


def _applies(rule: Rule, config: Config) -> bool:
    try:
        return bool(rule.when(config))
    except (TypeError, AttributeError, ValueError, OverflowError):
        return False  # a value of the wrong kind, which `kinds` tells of


def one_of(*keys: str) -> Callable[[Config], bool]:
    """Whether all the keys say something: any one of them would do."""
    return lambda config: all(config.get(key) for key in keys)


def without(key: str, *needed: str) -> Callable[[Config], bool]:
    """Whether `key` says something, and none of what it needs does."""
    return lambda config: bool(config.get(key)) and not any(config.get(each) for each in needed)


def schedule(look: Look) -> Iterator[Problem]:
    """Batches, steps, saving and evaluating."""
    yield from clashes(look, _SCHEDULE)


def data(look: Look) -> Iterator[Problem]:
    """What is trained on and evaluated with, and how it is cut."""
    yield from clashes(look, _DATA)


def _wants_evaluation(config: Config) -> bool:
    strategy = config.get("eval_strategy") or config.get("evaluation_strategy")
    asked = isinstance(strategy, str) and strategy not in {"", "no"}
    return bool(config.get("eval_steps") or config.get("evals_per_epoch") or asked)


_REFUSES = "axolotl refuses the two together"

_SCHEDULE = (
    Rule(
        "warmup_ratio",
        one_of("warmup_steps", "warmup_ratio"),
        f"warmup_ratio and warmup_steps both say how long to warm up: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "gradient_accumulation_steps",
        one_of("gradient_accumulation_steps", "batch_size"),
        f"gradient_accumulation_steps and batch_size say the same twice: {_REFUSES}",
        "remove batch_size",
    ),
    Rule(
        "batch_size",
        without("batch_size", "micro_batch_size", "gradient_accumulation_steps"),
        "batch_size alone does not say what fits on a GPU: axolotl refuses it",
        "say instead: micro_batch_size: 2 and gradient_accumulation_steps: 4",
    ),
    Rule(
        "batch_size",
        lambda c: (
            c.get("batch_size") and int(c["batch_size"]) < int(c.get("micro_batch_size") or 1)
        ),
        "batch_size is less than micro_batch_size: axolotl would accumulate over no step at all",
        "make batch_size a multiple of micro_batch_size",
    ),
    Rule(
        "save_steps",
        lambda c: c.get("save_steps") and c.get("save_strategy") not in {None, "steps", False},
        "save_steps goes only with save_strategy: steps: axolotl refuses it",
        "remove save_steps, or say save_strategy: steps",
    ),
    Rule(
        "save_steps",
        one_of("saves_per_epoch", "save_steps"),
        f"save_steps and saves_per_epoch both say when to save: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "save_strategy",
        lambda c: c.get("save_strategy") == "best" and not c.get("metric_for_best_model"),
        "save_strategy: best needs metric_for_best_model: axolotl refuses it",
        "add metric_for_best_model: loss",
    ),
    Rule(
        "save_strategy",
        lambda c: c.get("hub_model_id") and c.get("save_strategy") == "no",
        "hub_model_id wants checkpoints to upload, and save_strategy: no makes none",
        "say save_strategy: epoch",
        "warning",
    ),
    Rule(
        "eval_steps",
        lambda c: c.get("eval_steps") and c.get("eval_strategy") not in {None, "steps", False},
        "eval_steps goes only with eval_strategy: steps: axolotl refuses it",
        "remove eval_steps, or say eval_strategy: steps",
    ),
    Rule(
        "eval_steps",
        one_of("evals_per_epoch", "eval_steps"),
        f"eval_steps and evals_per_epoch both say when to evaluate: {_REFUSES}",
        "keep one of the two",
    ),
    Rule(
        "eval_strategy",
        lambda c: c.get("evals_per_epoch") and c.get("eval_strategy") not in {None, "steps", False},
        "evals_per_epoch goes only with eval_strategy: steps: axolotl refuses it",
        "remove eval_strategy",
    ),
    Rule(
        "val_set_size",
        lambda c: (
            c.get("val_set_size") == 0
            and (c.get("eval_steps") or c.get("eval_strategy") not in {None, "no", False})
            and not c.get("test_datasets")
        ),
        "it asks for evaluations, and val_set_size is 0: axolotl refuses the two together",
        "set val_set_size: 0.05, or remove eval_steps and eval_strategy",
    ),
    Rule(
        "do_bench_eval",
        without("do_bench_eval", "evals_per_epoch", "eval_steps"),
        "do_bench_eval needs evals_per_epoch or eval_steps: axolotl refuses it",
        "add evals_per_epoch: 1",
    ),
    Rule(
        "early_stopping_patience",
        lambda c: (
            c.get("early_stopping_patience") and not (c.get("save_steps") and c.get("eval_steps"))
        ),
        "early_stopping_patience needs save_steps and eval_steps: axolotl refuses it",
        "add eval_steps: 50 and save_steps: 50",
    ),
    Rule(
        "save_steps",
        lambda c: (
            c.get("early_stopping_patience")
            and c.get("save_steps")
            and c.get("eval_steps")
            and c["save_steps"] % c["eval_steps"] != 0
        ),
        "early stopping wants save_steps to be a multiple of eval_steps: axolotl refuses it",
        "make the two equal",
    ),
    Rule(
        "warmup_ratio",
        lambda c: c.get("rl") == "simpo" and c.get("warmup_ratio"),
        "warmup_ratio does not go with rl: simpo: axolotl refuses it",
        "use warmup_steps",
    ),
)


_EVALUATION = ("eval_steps", "evals_per_epoch", "eval_strategy", "evaluation_strategy")


def evaluation_without_data(look: Look) -> Iterator[Problem]:
    """Evaluations asked for, and no data kept for them: axolotl leaves them out without a word."""
    config = look.config
    if not _wants_evaluation(config) or config.get("val_set_size") is not None:
        return
    if config.get("test_datasets"):
        return
    key = next(k for k in _EVALUATION if config.get(k))
    yield look.warning(
        (key,),
        f"{key} asks for evaluations, and no data are kept for them",
        "set val_set_size: 0.05, or give test_datasets",
    )


def _packs(config: Config) -> bool:
    return bool(config.get("sample_packing"))


_DATA = (
    Rule(
        "val_set_size",
        one_of("test_datasets", "val_set_size"),
        "val_set_size and test_datasets both say what to evaluate with: axolotl refuses the two "
        "together",
        "say val_set_size: 0, or remove test_datasets",
    ),
    Rule(
        "val_set_size",
        one_of("pretraining_dataset", "val_set_size"),
        "val_set_size cannot be cut off a pretraining_dataset: axolotl refuses it",
        "remove val_set_size, or give test_datasets",
    ),
    Rule(
        "val_set_size",
        one_of("streaming", "val_set_size"),
        "val_set_size cannot be cut off streamed data: axolotl refuses it",
        "remove val_set_size, or give test_datasets",
    ),
    Rule(
        "pretraining_dataset",
        without("pretraining_dataset", "max_steps"),
        "a pretraining_dataset has no length, and max_steps is missing: axolotl refuses it",
        "add max_steps: 1000",
    ),
    Rule(
        "streaming",
        without("streaming", "max_steps"),
        "streamed data have no length, and max_steps is missing: axolotl refuses it",
        "add max_steps: 1000",
    ),
    Rule(
        "include_tokens_per_second",
        one_of("pretraining_dataset", "include_tokens_per_second"),
        f"include_tokens_per_second does not go with a pretraining_dataset: {_REFUSES}",
        "remove include_tokens_per_second",
    ),
    Rule(
        "sample_packing",
        one_of("sample_packing", "rl"),
        "sample_packing does not go with rl: axolotl refuses the two together",
        "say sample_packing: false",
    ),
    Rule(
        "eval_sample_packing",
        lambda c: c.get("rl") == "kto" and c.get("eval_sample_packing"),
        "eval_sample_packing does not go with rl: kto: axolotl refuses the two together",
        "say eval_sample_packing: false",
    ),
    Rule(
        "eval_table_size",
        lambda c: (
            _packs(c) and c.get("eval_table_size") and c.get("eval_sample_packing") is not False
        ),
        "eval_table_size does not go with packed evaluation: axolotl refuses the two together",
        "say eval_sample_packing: false",
    ),
    Rule(
        "do_causal_lm_eval",
        one_of("do_causal_lm_eval", "eval_sample_packing"),
        "do_causal_lm_eval does not go with packed evaluation: axolotl refuses the two together",
        "say eval_sample_packing: false",
    ),
    Rule(
        "chat_template",
        lambda c: c.get("chat_template") == "jinja" and not c.get("chat_template_jinja"),
        "chat_template: jinja needs the template itself: axolotl refuses it",
        "add chat_template_jinja: my_template.jinja",
    ),
    Rule(
        "push_dataset_to_hub",
        lambda c: c.get("push_dataset_to_hub") and c.get("hf_use_auth_token") is not True,
        "push_dataset_to_hub needs hf_use_auth_token: true: axolotl refuses it",
        "add hf_use_auth_token: true",
    ),
    Rule(
        "rl",
        lambda c: c.get("rl") == "kto" and c.get("remove_unused_columns") is not False,
        "rl: kto needs remove_unused_columns: false: axolotl refuses it",
        "add remove_unused_columns: false",
    ),
    Rule(
        "rl",
        lambda c: c.get("rl") == "ebft" and not c.get("ebft"),
        "rl: ebft needs a section ebft: axolotl refuses it",
        "add ebft: {mode: structured}",
    ),
    Rule(
        "dpo_loss_type",
        lambda c: c.get("dpo_loss_type") is not None and c.get("rl") != "dpo",
        "dpo_loss_type goes only with rl: dpo: axolotl refuses it",
        "say rl: dpo, or remove dpo_loss_type",
    ),
    Rule(
        "dpo_loss_weights",
        lambda c: c.get("dpo_loss_weights") is not None and c.get("rl") != "dpo",
        "dpo_loss_weights goes only with rl: dpo: axolotl refuses it",
        "say rl: dpo, or remove dpo_loss_weights",
    ),
    Rule(
        "trl",
        lambda c: (
            c.get("rl") == "grpo"
            and c["trl"].get("num_generations")
            and int(c.get("micro_batch_size") or 1)
            * int(c.get("gradient_accumulation_steps") or 1)
            % int(c["trl"]["num_generations"])
            and not c["trl"].get("generation_batch_size")
        ),
        "a batch of rl: grpo must be a multiple of trl.num_generations: axolotl refuses it",
        "set gradient_accumulation_steps to trl.num_generations",
    ),
)
