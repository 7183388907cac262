"""One mistake in a sound recipe: what people get wrong, and what nobody foresaw.

A `Mistake` changes a case and says where it must be told of. Some are drawn by chance (a letter
dropped from any key, a value of any key turned into one of another kind); some cannot be seen from
here (a model's name that is not on the hub) and are counted as missed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from benchmarks.preflight_good import Case, good


@dataclass(frozen=True)
class Mistake:
    """A broken case, and the place to tell: `r.yml:3`, `alpaca.jsonl row 2`."""

    kind: str
    case: Case
    where: str


Change = Callable[[Case, random.Random], tuple[Case, str] | None]
"""The broken case and where; None when the case has no place for the mistake."""


def broken(seed: int = 11) -> list[Mistake]:
    """Every kind of mistake in three sound recipes, where it fits, the same for the same seed."""
    chance = random.Random(seed)
    sound = good()
    found = []
    for kind, change in CHANGES.items():
        made: list[Mistake] = []
        for case in chance.sample(sound, len(sound)):
            result = change(case, chance)
            if result is not None and len(made) < 3:
                made.append(Mistake(kind, replace(result[0], name=case.name), result[1]))
        assert made, kind
        found += made
    return found


def _at(lines: list[str] | tuple[str, ...], start: str) -> int | None:
    return next((n for n, line in enumerate(lines) if line.startswith(start)), None)


def _line(number: int) -> str:
    return f"r.yml:{number + 1}"


def put(line: str, *, only: str = "", never: tuple[str, ...] = ()) -> Change:
    """The line in place of its key's own, or new at a place drawn among the top keys."""

    def change(case: Case, chance: random.Random) -> tuple[Case, str] | None:
        if only and _at(case.lines, only) is None:
            return None
        if any(_at(case.lines, each) is not None for each in never):
            return None
        lines = list(case.lines)
        key = line.partition(":")[0] + ":"
        place = _at(lines, key)
        if place is not None:
            below = lines[place + 1] if len(lines) > place + 1 else ""
            if lines[place].strip() == line or below.startswith(" "):
                return None
            lines[place] = line
        else:
            place = chance.choice(_gaps(lines))
            lines.insert(place, line)
        return case.with_lines(lines), _line(place)

    return change


def _gaps(lines: list[str]) -> list[int]:
    """Where a key may be put in at the top."""
    return [n for n, line in enumerate(lines) if line[:1].isalpha()] + [len(lines)]


def drop(start: str, *, told: str) -> Change:
    """The line is not there; told at another line, or at the first."""

    def change(case: Case, _: random.Random) -> tuple[Case, str] | None:
        place = _at(case.lines, start)
        if place is None or (told and _at(case.lines, told) is None):
            return None
        lines = [line for n, line in enumerate(case.lines) if n != place]
        return case.with_lines(lines), _line(_at(lines, told) or 0 if told else 0)

    return change


def swap(old: str, new: str, *, only: str = "") -> Change:
    """A piece of one line is another; told at that line."""

    def change(case: Case, _: random.Random) -> tuple[Case, str] | None:
        place = next((n for n, line in enumerate(case.lines) if old in line), None)
        if place is None or (only and _at(case.lines, only) is None):
            return None
        lines = list(case.lines)
        lines[place] = lines[place].replace(old, new, 1)
        return case.with_lines(lines), _line(place)

    return change


def on(line: str, gpu: str) -> Change:
    """A thing that the GPU does not have."""
    putting = put(line, never=("attn_implementation:",) if "attention" in line else ())

    def change(case: Case, chance: random.Random) -> tuple[Case, str] | None:
        case = replace(case, lines=tuple(one for one in case.lines if not _needs_a_new_one(one)))
        made = putting(case, chance)
        return None if made is None else (replace(made[0], gpu=gpu), made[1])

    return change


def _needs_a_new_one(line: str) -> bool:
    """Whether the line asks for what an old GPU lacks."""
    return line.startswith(("bf16", "tf32", "flash_attention", "attn_", "sample_packing"))


def row(file: str, number: int, broken_row: str) -> Change:
    """A row of the data is another."""

    def change(case: Case, _: random.Random) -> tuple[Case, str] | None:
        if not any(file in line for line in case.lines):
            return None
        rows = case.files[file].splitlines()
        rows[number - 1] = broken_row
        files = {**case.files, file: "\n".join(rows) + "\n"}
        return replace(case, files=files), f"{file} row {number}"

    return change


def _typo(case: Case, chance: random.Random) -> tuple[Case, str] | None:
    """A letter of some key is dropped, doubled, or exchanged with the next."""
    lines = list(case.lines)
    place = chance.choice([n for n in _gaps(lines)[:-1] if len(lines[n].split(":")[0]) > 4])
    key, _, rest = lines[place].partition(":")
    if key in {"base_model", "datasets", "learning_rate", "rl", "pretraining_dataset"}:
        return None
    if not rest.strip():
        return None  # a key that says nothing is told of as a warning, and may hold a list
    at = chance.randrange(1, len(key) - 1)
    ways = (
        key[:at] + key[at + 1 :],
        key[:at] + key[at] + key[at:],
        key[: at - 1] + key[at] + key[at - 1] + key[at + 1 :],
    )
    new = chance.choice(ways)
    if new == key:
        return None
    lines[place] = f"{new}:{rest}"
    return case.with_lines(lines), _line(place)


def _other_kind(value: str) -> Change:
    """The value of some key that holds a number or a switch becomes another kind of value."""

    def change(case: Case, chance: random.Random) -> tuple[Case, str] | None:
        lines = list(case.lines)
        plain = [
            n
            for n, line in enumerate(lines)
            if line[:1].isalpha() and _is_plain(line.partition(":")[2].strip())
        ]
        place = chance.choice(plain)
        key = lines[place].partition(":")[0]
        lines[place] = f"{key}: {value}"
        return case.with_lines(lines), _line(place)

    return change


def _is_plain(value: str) -> bool:
    return value in {"true", "false"} or value.replace(".", "").isdigit()


def _nested(case: Case, _: random.Random) -> tuple[Case, str] | None:
    """A key of the top has slipped into the data set above it."""
    place = _at(case.lines, "    type: ")
    moved = _at(case.lines, "micro_batch_size:")
    if place is None or moved is None:
        return None
    lines = list(case.lines)
    line = lines.pop(moved)
    place = place if moved < place else place + 1
    lines.insert(place, f"    {line}")
    return case.with_lines(lines), _line(place)


def _twice(case: Case, _: random.Random) -> tuple[Case, str] | None:
    """A key is there a second time."""
    place = _at(case.lines, "learning_rate:")
    assert place is not None
    lines = [*case.lines, "learning_rate: 0.001"]
    return case.with_lines(lines), _line(len(lines) - 1)


def _few_rows(case: Case, _: random.Random) -> tuple[Case, str] | None:
    """More GPUs than the rows of a step."""
    place = _at(case.lines, "micro_batch_size: 4")
    local = not any("pretraining" in line or "argilla" in line for line in case.lines)
    if place is None or not local:
        return None
    files = {name: "".join(text.splitlines(keepends=True)[:5]) for name, text in case.files.items()}
    return replace(case, files=files, gpus=8), _line(place)


def _cut_short(case: Case, chance: random.Random) -> tuple[Case, str] | None:
    """No checkpoints on spot capacity."""
    kept = [line for line in case.lines if not line.startswith("save")]
    made = put('save_strategy: "no"')(case.with_lines(kept), chance)
    return None if made is None else (replace(made[0], spot=True), made[1])


def _chat_row(turns: str, *, empty: str = "") -> str:
    names = {"u": "user", "a": "assistant", "x": "narrator"}
    said = [{"role": names[t], "content": "" if t == empty else "words"} for t in turns]
    return json.dumps({"messages": said})


def _keys() -> Iterator[tuple[str, Change]]:
    """One key: its name or its value."""
    for number in range(8):
        yield f"a misspelled key {number}", _typo
    for word in ("many", "[1, 2]", "{a: b}"):
        yield f"another kind of value: {word}", _other_kind(word)
    for line in (
        *("micro_batch_size: -1", "micro_batch_size: 0", "gradient_accumulation_steps: -4"),
        *("sequence_len: 0", "sequence_len: 2k", "num_epochs: 0", "num_epochs: three"),
        *("learning_rate: 2e4", "learning_rate: 0", "seed: forty"),
        *("val_set_size: 1.5e", "val_set_size: -0.05", "val_set_size: 5%", "weight_decay: -0.1"),
        *("optimizer: adamw", "optimizer: adam_bnb_8bit", "lr_scheduler: cosin", "lr_scheduler: 1"),
        *("save_total_limit: -1", "logging_steps: -5", "bf16: yess", "fp16: half"),
        *("chat_template: chatm", "attn_implementation: flash", "max_grad_norm: none"),
        *("adam_beta2: 1.5", "warmup_ratio: 10", "gradient_checkpointing: always"),
        *("eval_batch_size: -2", "save_strategy: no", "save_strategy: false", "rl: ppo"),
        *(
            "plugins: liger",
            "deepspeed: deepspeed_configs/zero9.json",
            "evaluation_strategy: steps",
        ),
        *("deepspeed: /workspace/axolotl/deepspeed_configs/zero2.json", "gradio_share: true"),
        *("max_packed_sequence_len: 2048", "s2_attention: true", "unsloth_lora_mlp: true"),
        *("rope_scaling: {type: linear, factor: 2.0}", "relora_steps: 100", "debug: true"),
        *("load_4bit: true", "tokenizer_config: ./gone", "lora_model_dir: ./gone/adapter"),
        *("resume_from_checkpoint: ./gone", "chat_template_jinja: gone.jinja", "budget: 5"),
        *(f"hub_model_id: hf_{'Q' * 34}", f"comet_api_key: {'a1' * 20}"),
        *(f"wandb_run_id: {'wandb_v1_' + 'x' * 40}", "output_dir: /mnt/disk/out"),
        *("wandb_project: mine", "hub_model_id: me/mine", "push_dataset_to_hub: me"),
        *("micro_batch_siz: 2", "train_on_input: true", "lora-r: 8", "special_token: {}"),
    ):
        key, _, value = line.partition(": ")
        yield f"{key}: {value[:12]}", put(line)


def _together() -> Iterator[tuple[str, Change]]:
    """Keys that do not go together, and adapters."""
    lora, packing = "adapter: lora", "sample_packing:"
    yield "warmup twice", put("warmup_ratio: 0.5", only="warmup_steps: 10")
    yield "steps and strategy", put("save_steps: 5", only="save_strategy: epoch")
    yield "steps and saves", put("save_steps: 5", only="saves_per_epoch")
    yield "evaluating nothing", put("evals_per_epoch: 2", never=("val_set_size", "test_datasets"))
    yield "evaluating twice", put("eval_steps: 5", only="evals_per_epoch")
    yield "two validations", put("val_set_size: 0.2", only="test_datasets")
    yield "4 bits of all weights", put("load_in_4bit: true", never=("adapter", "rl"))
    yield "8 bits of all weights", put("load_in_8bit: true", never=("adapter", "rl"))
    yield "qlora without 4 bits", drop("load_in_4bit", told="adapter: qlora")
    yield "qlora in 8 bits", put("load_in_8bit: true", only="adapter: qlora")
    yield "no rank", drop("lora_r", told="adapter")
    yield "no alpha", drop("lora_alpha", told="adapter")
    yield "no layers", drop("lora_target", told="adapter")
    yield "rank 0", put("lora_r: 0", only="adapter")
    yield "dropout 1", put("lora_dropout: 1", only="adapter")
    yield "a misspelled adapter", put("adapter: loraa", only=lora)
    yield "a misspelled layer", put("lora_target_modules: [q_prj, v_proj]", only=lora)
    yield "an adapter forgotten", drop(lora, told="lora_r")
    yield "restarts without steps", put("relora: true", only=lora)
    yield "packing preferences", put("sample_packing: true", only="rl")
    yield "packing without attention", drop("flash_attention", told=packing)
    yield "attention twice", put("flash_attention: true", only="attn_implementation")


def _in_the_file() -> Iterator[tuple[str, Change]]:
    """What is missing, what has slipped, and how it is written."""
    yield "no rate", drop("learning_rate", told="")
    yield "no model", drop("base_model", told="")
    yield "no steps for a stream", drop("max_steps", told="pretraining_dataset")
    yield "a gone file", swap("alpaca.jsonl", "alpacca.jsonl")
    yield "a gone chat", swap("chat.jsonl", "data/chat.jsonl")
    yield "another type", swap("type: alpaca", "type: alpacaa")
    yield "the old type", swap("type: chat_template", "type: sharegpt")
    yield "a plural type", swap("type: completion", "type: completions")
    yield "a wrong split", swap("split: train", "split: test", only="test_datasets")
    yield "a misspelled mapping", swap("message_property_mappings", "message_property_mapping")
    yield "a misspelled path", swap("  - path:", "  - pth:")
    yield "a tab", swap("  - path:", "\t- path:")
    yield "an open quote", swap("base_model: ", "base_model: '")
    yield "an open brace", swap("{role: from, content: value}", "{role: from, content: value")
    yield "no space", swap("num_epochs: ", "num_epochs:")
    yield "a slipped key", _nested
    yield "a key twice", _twice


def _around() -> Iterator[tuple[str, Change]]:
    """The machine, and the rows."""
    yield "bf16 on a T4", on("bf16: true", "T4")
    yield "tf32 on a T4", on("tf32: true", "T4")
    yield "flash attention on a T4", on("flash_attention: true", "T4")
    yield "fp8 on an A100", on("fp8: true", "A100-80GB")
    yield "flash attention 3 on an L4", on("attn_implementation: flash_attention_3", "L4")
    yield "too many GPUs", _few_rows
    yield "spot without checkpoints", _cut_short
    yield "a row cut off", row("alpaca.jsonl", 9, '{"instruction": "x", "outp')
    yield "a row without output", row("alpaca.jsonl", 3, '{"instruction": "x", "answer": "y"}')
    yield "an empty answer", row("alpaca.jsonl", 5, '{"instruction": "x", "output": ""}')
    yield "a number as text", row("plain.jsonl", 2, '{"text": 5}')
    yield "an empty row", row("plain.jsonl", 4, "{}")
    yield "roles that repeat", row("chat.jsonl", 6, _chat_row("uuaa"))
    yield "an unknown role", row("chat.jsonl", 7, _chat_row("uxa"))
    yield "nothing to learn", row("chat.jsonl", 8, _chat_row("uu"))
    yield "an empty conversation", row("chat.jsonl", 1, '{"messages": []}')
    yield "nothing said", row("chat.jsonl", 2, _chat_row("ua", empty="a"))
    # What nobody can see from here, counted as missed.
    yield "a model that is not there", swap("base_model: ", "base_model: not-there-")
    yield "a foreign token", swap("<|end_of_text|>", "<|of_no_vocabulary|>")


CHANGES = dict([*_keys(), *_together(), *_in_the_file(), *_around()])
