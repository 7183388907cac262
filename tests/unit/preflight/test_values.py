"""Values that cannot be, and keys that do not go together: each with its line and a way out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from launcher.preflight import Problem, keys
from launcher.preflight.ranges import RANGES

Examine = Callable[[str], list[Problem]]
GOOD = "base_model: o/m\ndatasets:\n- path: o/s\n  type: alpaca\nlearning_rate: 0.0002\n"
LORA = GOOD + "adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\n"


def told(examine: Examine, text: str) -> tuple[str, str, str, str]:
    (problem,) = examine(text)
    assert problem.fix
    return problem.severity, problem.where, problem.message, problem.fix


@pytest.mark.parametrize(
    ("line", "says", "fix"),
    [
        ("micro_batch_size: two", "must be a whole number: axolotl refuses it", "micro_batch_size"),
        ("micro_batch_size: 1.5", "is 1.5, and must be a whole number", "1"),
        ("micro_batch_size: true", "axolotl would take it as 1", "1"),
        ("flash_attention: maybe", "must be true or false", "true"),
        ("val_set_size: 5%", "is '5%', and must be a number", "0.1"),
        ("optimizer: 8", "must be text", '"8"'),
        ("save_strategy: no", "is false, and must be text", '"no"'),
        ("resume_from_checkpoint: true", "must be text", "auto_resume_from_checkpoints: true"),
        ("rl: dpoo", "must be one of dpo", "'dpo'"),
        ("special_tokens: <pad>", "must be a mapping", "{"),
        ("lora_modules_to_save: lm_head", "must be a list of texts", "["),
        ("sequence_len:", "is empty", "remove the key"),
        ("bf16: fast", "must be true or false or auto", "auto"),
        ("plugins: [1]", "must be a list of texts", "["),
    ],
)
def test_values_of_the_wrong_kind(examine: Examine, line: str, says: str, fix: str) -> None:
    severity, where, message, way = told(examine, f"{GOOD}{line}\n")
    assert (severity, where) == ("error", "r.yml:6")
    assert says in message
    assert fix in way


@pytest.mark.parametrize(
    "line",
    ['micro_batch_size: "4"', "micro_batch_size: 4.0", "weight_decay: 1e-2", "flash_attention: 1",
     "bf16: auto", "lora_target_modules: x", "lora_target_modules: [x]", "save_steps: 0.25",
     "max_memory: {0: 20GiB}", "save_total_limit: 0", "max_steps: -1", "val_set_size: 0",
     "eval_steps:", "gradient_checkpointing: offload"],
)  # fmt: skip
def test_values_that_axolotl_takes(examine: Examine, line: str) -> None:
    assert examine(f"{GOOD}{line}\n") == []


def test_what_stands_in_an_entry_is_of_a_kind_too(examine: Examine) -> None:
    text = GOOD.replace("type: alpaca", "type: alpaca\n  shards: two")
    assert told(examine, text)[1:3] == (
        "r.yml:5",
        "datasets[0].shards is 'two', and must be a whole number: axolotl refuses it",
    )


def test_a_recipe_without_a_learning_rate_is_refused(examine: Examine) -> None:
    without = GOOD.replace("learning_rate: 0.0002\n", "")
    (problem,) = examine(f"{without}x-learning_rate-is-elsewhere: 1\n")
    assert "learning_rate is missing" in problem.message


def test_every_range_is_of_a_key_that_axolotl_has_and_takes_its_own_example() -> None:
    assert RANGES.keys() <= keys.known()["keys"].keys()
    for allowed in RANGES.values():
        assert allowed.holds(float(allowed.usual))
        assert not allowed.holds(-1)
        assert not allowed.holds(float("nan"))
        assert not allowed.holds(float("inf"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("micro_batch_size: -1", "at least 1"),
        ("gradient_accumulation_steps: 0", "at least 1"),
        ("sequence_len: 0", "drops every row"),
        ("num_epochs: 0", "more than 0"),
        ("val_set_size: -0.1", "at least 0"),
        ("val_set_size: 1.0", "all of the data"),
        ("warmup_ratio: 5", "at most 1"),
        ("max_steps: 0", "at least 1"),
        ("adam_beta2: 1.0", "less than 1"),
        ("learning_rate: 2e4", "undo what the model knows"),
        ("learning_rate: -0.1", "more than 0"),
        ("learning_rate: fast", "must be a number"),
    ],
)
def test_numbers_that_cannot_be_meant(examine: Examine, line: str, says: str) -> None:
    text = GOOD.replace("learning_rate: 0.0002\n", "") if line.startswith("learning") else GOOD
    severity, where, message, _ = told(examine, f"{text}{line}\n")
    assert where == f"r.yml:{text.count(chr(10)) + 1}"
    assert says in message
    assert severity == ("warning" if "2e4" in line else "error")


@pytest.mark.parametrize(
    ("line", "says", "fix"),
    [
        ("optimizer: adamw", "no optimizer 'adamw'", "adamw"),
        ("optimizer: paged_adam_8bit", "no optimizer", "'paged_adamw_8bit'"),
        ("lr_scheduler: cosin", "no lr_scheduler", "cosine"),
        ("attn_implementation: flash", "no attn_implementation", "flash_attention_2"),
        ("adapter: loraa", "no adapter 'loraa'", "'lora'"),
    ],
)
def test_names_that_nobody_has(examine: Examine, line: str, says: str, fix: str) -> None:
    severity, where, message, way = told(examine, f"{GOOD}{line}\n")
    assert (severity, where) == ("error", "r.yml:6")
    assert says in message
    assert fix in way


@pytest.mark.parametrize(
    ("kind", "severity"),
    [("alpacaa", "error"), ("chat_templates", "error"), ("their.own_prompts", "warning")],
)
def test_data_set_types_that_axolotl_does_not_have(
    examine: Examine, kind: str, severity: str
) -> None:
    assert told(examine, GOOD.replace("alpaca", kind))[:2] == (severity, "r.yml:4")


@pytest.mark.parametrize("kind", ["alpaca:chat", "completion", "alpaca_w_system.load_open_orca"])
def test_data_set_types_that_it_has(examine: Examine, kind: str) -> None:
    assert examine(GOOD.replace("alpaca", kind)) == []


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ("warmup_steps: 10\nwarmup_ratio: 0.1", 2, "both say how long"),
        ("batch_size: 8\ngradient_accumulation_steps: 2", 2, "the same twice"),
        ("micro_batch_size: 4\nbatch_size: 2", 2, "less than micro_batch_size"),
        ("save_strategy: epoch\nsave_steps: 10", 2, "only with save_strategy: steps"),
        ("saves_per_epoch: 1\nsave_steps: 10", 2, "both say when to save"),
        ("val_set_size: 0\neval_steps: 10", 1, "val_set_size is 0"),
        ("val_set_size: 0.1\neval_strategy: epoch\neval_steps: 10", 3, "only with eval_strategy"),
        ("evals_per_epoch: 4", 1, "no data are kept"),
        ("test_datasets: [{path: o/t, type: alpaca}]\nval_set_size: 0.1", 2, "both say"),
        ("streaming: true", 1, "max_steps is missing"),
        ("chat_template: jinja", 1, "the template itself"),
        ("load_in_4bit: true", 1, "without an adapter"),
        ("load_in_8bit: true", 1, "without an adapter"),
        ("lora_r: 8", 1, "there is none: all weights"),
        ("sample_packing: true", 1, "see each other"),
        ("flash_attention: true\nattn_implementation: sdpa", 1, "the same twice"),
        ("bf16: true\nfp16: true", 2, "axolotl takes bf16"),
        ("activation_offloading: true", 1, "needs gradient_checkpointing"),
        ("fp8_config: {recipe: rowwise}", 1, "needs fp8"),
        ("early_stopping_patience: 3", 1, "needs save_steps and eval_steps"),
        ("push_dataset_to_hub: me", 1, "needs hf_use_auth_token"),
        ("evaluation_strategy: 'no'", 1, "another name by now"),
        ("s2_attention: true", 1, "axolotl refuses 's2_attention'"),
        ("unsloth_lora_o: true", 1, "axolotl refuses 'unsloth_lora_o'"),
        ("cut_cross_entropy: true\nchunked_cross_entropy: true", 2, "do the same"),
    ],
)
def test_keys_that_do_not_go_together(examine: Examine, lines: str, line: int, says: str) -> None:
    found = [p for p in examine(f"{GOOD}{lines}\n") if says in p.message]
    assert [p.where for p in found] == [f"r.yml:{5 + line}"]
    assert found[0].fix


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("adapter: lora", "adapter: qlora"), 6, "needs load_in_4bit"),
        (("lora_r: 8", "lora_r: 0"), 7, "lora_r is 0"),
        (("lora_r: 8\n", ""), 6, "lora_r is missing"),
        (("lora_alpha: 16\n", ""), 6, "lora_alpha is missing"),
        (("lora_target_linear: true\n", ""), 6, "which layers"),
        (("lora_alpha: 16", "lora_dropout: 1.0\nlora_alpha: 16"), 8, "less than 1"),
        (
            ("adapter: lora", "load_in_8bit: true\nlora_mlp_kernel: true\nadapter: lora"),
            7,
            "8 bits",
        ),
    ],
)
def test_adapters_that_cannot_be(
    examine: Examine, change: tuple[str, str], line: int, says: str
) -> None:
    severity, where, message, _ = told(examine, LORA.replace(*change))
    assert (severity, where) == ("error", f"r.yml:{line}")
    assert says in message


def test_an_adapter_that_goes_on_from_another_needs_no_shape(examine: Examine) -> None:
    assert examine(GOOD + "adapter: lora\nlora_model_dir: o/a\n") == []
    assert examine(LORA) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("comet_api_key: abcdef", "a key"),
        ("swanlab_api_key: abcdef", "a key"),
        (f"wandb_name: wandb_v1_{'a' * 30}", "Weights & Biases"),
        (f"hub_model_id: hf_{'A' * 34}", "Hugging Face token"),
        (f"mlflow_experiment_name: sk-{'a' * 40}", "OpenAI"),
        (f"special_tokens: {{pad_token: hf_{'b' * 34}}}", "Hugging Face token"),
    ],
)
def test_keys_of_services_in_the_config(examine: Examine, line: str, says: str) -> None:
    found = [p for p in examine(f"{GOOD}{line}\n") if "log" in p.message]
    assert [(p.severity, p.where) for p in found] == [("error", "r.yml:6")]
    assert says in found[0].message
    secret = line.rsplit(": ", maxsplit=1)[-1].rstrip("}")
    assert secret not in found[0].message + found[0].fix


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("gradio_share: true", "public address"),
        ("output_dir: /workspace/out", "outside the run's directory"),
        ("output_dir: ../out", "outside the run's directory"),
    ],
)
def test_what_would_get_out_or_be_left_behind(examine: Examine, line: str, says: str) -> None:
    severity, where, message, _ = told(examine, f"{GOOD}{line}\n")
    assert (severity, where) == ("warning", "r.yml:6")
    assert says in message
    assert examine(f"{GOOD}output_dir: ./out\nrevision_of_model: {'a1' * 20}\n") == []
