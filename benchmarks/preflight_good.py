"""Sound recipes, made in code: the ways people write them, with seeded variations.

That axolotl takes each is checked by `python -m benchmarks.preflight --axolotl`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

GPU = "A100-80GB"
"""What the sound recipes are for."""

_MODELS = (
    "NousResearch/Llama-3.2-1B",
    "Qwen/Qwen2.5-3B",
    "microsoft/phi-2",
    "EleutherAI/pythia-1b",
)
_ROWS = 64


@dataclass(frozen=True)
class Case:
    """A recipe with its data.

    lines  of the recipe
    files  name -> text, beside it
    gpu    what it is to run on, and how many
    spot   whether the machine may be taken away
    """

    name: str
    lines: tuple[str, ...]
    files: dict[str, str]
    gpu: str = GPU
    gpus: int = 1
    spot: bool = False

    @property
    def text(self) -> str:
        """The recipe."""
        return "\n".join(self.lines) + "\n"

    def with_lines(self, lines: list[str]) -> Case:
        """The same with other lines."""
        return replace(self, lines=tuple(lines))


def good(seed: int = 7) -> list[Case]:
    """At least a hundred sound recipes, the same ones for the same seed."""
    chance = random.Random(seed)
    cases = []
    for number in range(14):
        for kind in _KINDS:
            lines = list(kind(chance))
            cases.append(Case(f"{kind.__name__[1:]}-{number}", tuple(lines), dict(_FILES)))
    return cases


def _jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _chat(role: str, content: str, names: tuple[str, str]) -> list[dict[str, object]]:
    turns = [(names[0], "What is {}?"), (names[1], "It is {}, as anybody can see.")]
    return [
        {"id": n, "talk": [{role: who, content: said.format(n)} for who, said in turns]}
        for n in range(_ROWS)
    ]


_FILES = {
    "alpaca.jsonl": _jsonl(
        [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(_ROWS)]
    ),
    "chat.jsonl": _jsonl(
        [{"messages": row["talk"]} for row in _chat("role", "content", ("user", "assistant"))]
    ),
    "shared.jsonl": _jsonl(
        [{"conversations": row["talk"]} for row in _chat("from", "value", ("human", "gpt"))]
    ),
    "plain.jsonl": _jsonl([{"text": f"a plain text, number {n}"} for n in range(_ROWS)]),
}


def _head(chance: random.Random) -> Iterator[str]:
    yield from chance.choice([[], ["# fine-tuning, take one"], ["# mine", ""]])
    yield f"base_model: {chance.choice(_MODELS)}"


def _data(file: str, kind: str, *more: str) -> Iterator[str]:
    yield "datasets:"
    yield f"  - path: {file}"
    yield f"    type: {kind}"
    yield from (f"    {line}" for line in more)


def _batch(chance: random.Random) -> Iterator[str]:
    yield f"sequence_len: {chance.choice([512, 1024, 2048, 4096])}"
    yield f"micro_batch_size: {chance.choice([1, 2, 4])}"
    yield f"gradient_accumulation_steps: {chance.choice([1, 4])}"
    yield f"num_epochs: {chance.choice([1, 2, 3, 0.5])}"


def _steps(chance: random.Random) -> Iterator[str]:
    yield f"learning_rate: {chance.choice(['0.0002', '2e-4', '1.0e-5', '0.00002'])}"
    yield f"optimizer: {chance.choice(['adamw_torch', 'adamw_torch_fused', 'adamw_bnb_8bit'])}"
    yield f"lr_scheduler: {chance.choice(['cosine', 'linear', 'constant', 'rex'])}"
    yield chance.choice(["warmup_steps: 10", "warmup_ratio: 0.1", "warmup_steps: 0"])
    yield f"weight_decay: {chance.choice(['0.0', '0.01'])}"


def _keep(chance: random.Random) -> Iterator[str]:
    yield f"logging_steps: {chance.choice([1, 5])}"
    yield chance.choice(["saves_per_epoch: 1", "save_steps: 50", "save_strategy: epoch"])
    yield from chance.choice(
        [["val_set_size: 0.05", "evals_per_epoch: 1"], ["val_set_size: 0.1"], ["val_set_size: 0"]]
    )
    yield from chance.choice(
        [["output_dir: ./outputs/mine"], ["seed: 42"], ["save_total_limit: 2"]]
    )


def _formats(chance: random.Random) -> Iterator[str]:
    yield f"bf16: {chance.choice(['auto', 'true'])}"
    yield f"tf32: {chance.choice(['false', 'true'])}"
    yield "gradient_checkpointing: true"
    yield chance.choice(["flash_attention: true", "attn_implementation: flash_attention_2"])


def _adapter(chance: random.Random, kind: str = "lora") -> Iterator[str]:
    yield f"adapter: {kind}"
    if kind == "qlora":
        yield "load_in_4bit: true"
    yield f"lora_r: {chance.choice([8, 16, 64])}"
    yield f"lora_alpha: {chance.choice([16, 32])}"
    yield f"lora_dropout: {chance.choice([0.0, 0.05])}"
    yield chance.choice(["lora_target_linear: true", "lora_target_modules: [q_proj, v_proj]"])


def _lora(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield from _data("alpaca.jsonl", "alpaca")
    for part in (_adapter(chance), _batch(chance), _steps(chance), _keep(chance), _formats(chance)):
        yield from part


def _qlora(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield from _adapter(chance, "qlora")
    yield from _data("shared.jsonl", "chat_template", *_SHARED)
    yield "chat_template: chatml"
    for part in (_batch(chance), _steps(chance), _keep(chance), _formats(chance)):
        yield from part
    yield "sample_packing: true"


_SHARED = (
    "field_messages: conversations",
    "message_property_mappings: {role: from, content: value}",
)


def _full(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield from _data("chat.jsonl", "chat_template")
    yield f"chat_template: {chance.choice(['chatml', 'tokenizer_default', 'llama3', 'mistral_v1'])}"
    for part in (_batch(chance), _steps(chance), _keep(chance), _formats(chance)):
        yield from part
    yield "special_tokens:"
    yield '  pad_token: "<|end_of_text|>"'


def _completion(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield "load_in_8bit: false"
    yield "load_in_4bit:"
    yield from _data("plain.jsonl", chance.choice(["completion", "completion:text"]))
    for part in (_adapter(chance), _batch(chance), _steps(chance), _keep(chance), _formats(chance)):
        yield from part
    yield "wandb_project:"
    yield "resume_from_checkpoint:"


def _pretraining(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield "pretraining_dataset:"
    yield "  - path: plain.jsonl"
    yield "    type: pretrain"
    yield "max_steps: 100"
    yield from (line for line in _batch(chance) if "epochs" not in line)
    yield from _steps(chance)
    yield from _formats(chance)


def _several(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield from _data("alpaca.jsonl", "alpaca")
    yield "  - path: plain.jsonl"
    yield "    type: completion"
    yield "test_datasets:"
    yield "  - path: chat.jsonl"
    yield "    type: chat_template"
    yield "    split: train"
    for part in (_adapter(chance), _batch(chance), _steps(chance), _formats(chance)):
        yield from part
    yield f"eval_steps: {chance.choice([10, 20])}"


def _user_defined(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    yield "datasets:"
    yield "  - path: alpaca.jsonl"
    yield "    type: {field_instruction: instruction, field_output: output}"
    for part in (_adapter(chance), _batch(chance), _steps(chance), _keep(chance), _formats(chance)):
        yield from part
    yield from chance.choice(
        [["neftune_noise_alpha: 5"], ["max_grad_norm: 1.0"], ["strict: false"]]
    )


def _preferences(chance: random.Random) -> Iterator[str]:
    yield from _head(chance)
    rl = chance.choice(["dpo", "orpo"])
    yield f"rl: {rl}"
    yield "datasets:"
    yield "  - path: argilla/dpo-mix-7k"
    yield "    split: train"
    yield f"    type: {'chatml.intel' if rl == 'dpo' else 'chat_template.argilla'}"
    for part in (_adapter(chance), _batch(chance), _steps(chance), _formats(chance)):
        yield from part


_KINDS = (
    *(_lora, _qlora, _full, _completion, _pretraining, _several, _user_defined, _preferences),
)

_AGED = (
    ("    type: chat_template", "    type: sharegpt  # as it was"),
    ("    field_messages: conversations", "    conversation: chatml"),
    (
        "    message_property_mappings: {role: from, content: value}",
        "    # ShareGPT's rows",
    ),
    ("optimizer: adamw_torch", "optimizer: adamw_hf"),
    ("gradient_checkpointing: true", "gradient_checkpointing: unsloth  # quick"),
    ("neftune_noise_alpha:", "noisy_embedding_alpha:"),
    ("warmup_ratio: 0.1", "warmup_ratio: 0.1\ndataset_processes: 4"),
    ("logging_steps:", "data_seed: 3\nlogging_steps:"),
    ("weight_decay:", "# kept\nunsloth_lora_mlp: true\nweight_decay:"),
)


def aged(case: Case) -> str:
    """The recipe as it might have been written in 2024: for `ftlaunch migrate` to bring back."""
    lines = []
    for line in case.lines:
        for new, old in _AGED:
            if line == new or (new.endswith(":") and line.startswith(new)):
                line = old + line.removeprefix(new)  # noqa: PLW2901 - the line as it was
                break
        lines.append(line)
    return "\n".join(lines) + "\n"
