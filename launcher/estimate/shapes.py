"""Where a model's shape comes from: the bundled table, a config.json, or numbers typed by hand.

Nothing here reaches for the network. The table is tables/shapes.csv, one model a row with the
source of its numbers; near names (another hub account's copy, a quantised one) are found too.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from backends.errors import BadInput
from launcher.estimate.shape import Shape, counted

_TABLE = Path(__file__).with_name("tables") / "shapes.csv"

WAY_OUT = (
    "tell ftlaunch estimate --params, --hidden and --layers (and --vocab, --heads, --kv-heads, "
    "--intermediate where you know them), or --model-config with the path of its config.json"
)

_TAIL = re.compile(
    r"[-_.](bnb[-_]4bit|unsloth|4bit|8bit|gptq|awq|int4|int8|fp8|nf4|bf16|fp16|gguf|hf|base|chat"
    r"|instruct|it|pt|sft|dpo|dequantized|v\d+(\.\d+)*|\d{4})$"
)


def _row(row: dict[str, str]) -> Shape:
    number = {key: int(row[key]) for key in ("hidden", "layers", "heads", "kv_heads", "head_dim")}
    return Shape(
        name=row["hf_id"],
        **number,
        intermediate=int(row["intermediate"]),
        vocab=int(row["vocab"]),
        tied=row["tied"] == "1",
        params=round(float(row["params_b"]) * 1e9),
        active_params=round(float(row["active_params_b"]) * 1e9),
        mlp_mats=int(row["mlp_mats"]),
        experts=int(row["n_experts"]),
        top_k=int(row["top_k"]),
        expert_intermediate=int(row["moe_intermediate"]),
        shared_experts=int(row["shared_experts"]),
        dense_layers=int(row["first_dense"]),
        family=row["family"],
        source=f"table ({row['status']}: {row['source']})",
    )


@cache
def table() -> Mapping[str, Shape]:
    """Every bundled shape by its hub name."""
    with _TABLE.open(encoding="utf-8", newline="") as lines:
        return {row["hf_id"]: _row(row) for row in csv.DictReader(lines)}


def _stems(name: str) -> list[str]:
    """A model's name without its account, with less and less of what does not change its shape."""
    last = name.strip().rstrip("/").rsplit("/", 1)[-1].lower()
    found = [last]
    while (shorter := _TAIL.sub("", last)) != last:
        last = shorter
        found.append(last)
    bare = [re.sub(r"^(meta|unsloth|open)[-_]", "", each) for each in found]
    return [re.sub(r"[^a-z0-9]", "", each) for each in bare]


@cache
def _indexes() -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Shapes by their hub name, and by each of their stems; the longest stems go first."""
    whole = {name.lower(): shape for name, shape in table().items()}
    stems: dict[str, Shape] = {}
    every = [(_stems(name), shape) for name, shape in table().items()]
    for depth in range(max(len(found) for found, _ in every)):
        for found, shape in every:
            if depth < len(found):
                stems.setdefault(found[depth], shape)
    return whole, stems


def find(name: str) -> Shape:
    """The shape of a hub id, from the table; raises BadInput that says the way out.

    Another account's copy of a known model, and a chat or quantised form of it, has its shape; the
    source says which it was taken for.
    """
    whole, known = _indexes()
    lower = name.strip().lower()
    if lower in whole:
        return whole[lower]
    stems = _stems(name)
    for stem in stems:
        if stem in known:
            near = known[stem]
            return replace(near, source=f"taken for {near.name}; {near.source}")
    close = difflib.get_close_matches(stems[-1], list(known), n=3, cutoff=0.75)
    names = dict.fromkeys(known[each].name for each in close)
    like = f"; known are {', '.join(names)}" if names else ""
    raise BadInput(f"the shape of {name} is not known{like}", hint=WAY_OUT)


def from_config_file(path: Path, *, params: int | None = None) -> Shape:
    """The shape that a config.json tells; raises BadInput."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", hint=WAY_OUT) from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}", hint=WAY_OUT) from error
    if not isinstance(config, Mapping):
        raise BadInput(f"{path} holds no mapping", hint=WAY_OUT)
    return from_config(config, name=str(path), params=params)


def from_config(config: Mapping[str, Any], *, name: str, params: int | None = None) -> Shape:
    """The shape that a model's config tells, in any of the names transformers uses.

    `params` is the exact count where it is known; else it is counted from the shape.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**config, **text}

    def number(*keys: str, default: int | None = None) -> int:
        for key in keys:
            value = config.get(key)
            if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
                value = max(value)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        if default is None:
            raise BadInput(f"{name} does not say {keys[0]}", hint=WAY_OUT)
        return default

    hidden = number("hidden_size", "n_embd", "d_model", "dim")
    layers = number("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = number("num_attention_heads", "n_head", "n_heads", default=max(hidden // 128, 1))
    family = str(config.get("model_type", ""))
    plain = family in _PLAIN_MLP
    experts = number("num_local_experts", "num_experts", "n_routed_experts", default=0)
    wide = number("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=4 * hidden)
    shape = Shape(
        name=name,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=number("num_key_value_heads", "n_head_kv", "num_kv_heads", default=heads),
        head_dim=number("head_dim", default=max(hidden // max(heads, 1), 1)),
        intermediate=wide,
        vocab=number("vocab_size", default=32_000),
        tied=bool(config.get("tie_word_embeddings", family.startswith("gemma"))),
        params=0,
        active_params=0,
        mlp_mats=2 if plain else 3,
        experts=experts,
        top_k=number("num_experts_per_tok", "moe_topk", default=2) if experts else 0,
        expert_intermediate=number("moe_intermediate_size", default=wide) if experts else 0,
        shared_experts=number("n_shared_experts", "num_shared_experts", default=0),
        dense_layers=number("first_k_dense_replace", default=0),
        family=family,
        source=f"its config ({name})",
    )
    return _counted(shape, params)


_PLAIN_MLP = frozenset(
    {
        "gpt2", "gpt_neox", "gptj", "gpt_neo", "gpt_bigcode", "falcon", "mpt", "opt", "bloom",
        "phi", "starcoder2", "stablelm_alpha", "nemotron", "apertus", "arcee", "codegen",
        "persimmon",
    }
)  # fmt: skip
"""Families whose MLP has two matrices."""


def from_numbers(
    *,
    params: int,
    hidden: int,
    layers: int,
    vocab: int = 0,
    heads: int = 0,
    kv_heads: int = 0,
    intermediate: int = 0,
    name: str = "a model of your own",
) -> Shape:
    """A shape from what was typed; what is left out is what models of that width usually have."""
    for label, value in (("params", params), ("hidden", hidden), ("layers", layers)):
        if value < 1:
            raise BadInput(f"--{label} is {value}", hint="it is 1 or more")
    heads = heads or max(hidden // 128, 1)
    vocab = vocab or 128_256
    kv_heads = kv_heads or heads
    width = max(hidden // heads, 1)
    attention = 2 * hidden * width * (heads + kv_heads)
    left = max(params - 2 * vocab * hidden, params // 2) / layers - attention
    wide = intermediate or max(round(left / (3 * hidden)), hidden)
    return Shape(
        name=name,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        intermediate=wide,
        vocab=vocab,
        tied=False,
        params=params,
        active_params=params,
        source="the numbers given",
    )


def _counted(shape: Shape, params: int | None) -> Shape:
    every, active = counted(shape)
    if params is not None:
        active = round(active * params / every)
        every = params
    return replace(shape, params=every, active_params=active)


def like(params_b: float, *, name: str) -> Shape:
    """The bundled dense shape nearest in size, scaled to `params_b` billions of parameters.

    For when nothing but a size is known.
    """
    dense = [shape for shape in table().values() if not shape.mixture and shape.mlp_mats == 3]
    wanted = round(params_b * 1e9)
    near = min(dense, key=lambda shape: abs(shape.params - wanted))
    return replace(
        near,
        name=name,
        params=wanted,
        active_params=wanted,
        source=f"only its size is known; shaped like {near.name}",
    )
