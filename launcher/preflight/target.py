"""What the machine that is asked for cannot do, or would lose.

axolotl finds out there, when it is paid for; some of it (bf16 on a T4) it only warns of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher import gpus
from launcher.environment.gpu import OLDEST_CAPABILITY
from launcher.preflight.adapters import LORA_KERNELS
from launcher.preflight.figures import number
from launcher.preflight.problem import Look, Problem
from launcher.preflight.weights import ATTENTION_FLAGS, attention_of
from launcher.wording import shown


@dataclass(frozen=True)
class Needs:
    """A thing a recipe may ask for, and the least capability that has it.

    keys   where it is asked for: the first that is on is named
    says   what it is
    then   what axolotl would do
    fix    what to write instead
    """

    keys: tuple[str, ...]
    least: tuple[int, int]
    says: str
    then: str
    fix: str


_NEEDS = (
    Needs(
        ("bf16", "bfloat16"),
        (8, 0),
        "bf16",
        "axolotl only warns, and the training fails",
        "say bf16: false and fp16: true, or take an A10, L4, A100 or newer",
    ),
    Needs(
        ("tf32",),
        (8, 0),
        "tf32",
        "axolotl takes it, and the trainer refuses it",
        "say tf32: false",
    ),
    Needs(
        ("fp8",),
        (9, 0),
        "fp8 training",
        "axolotl 0.19 refuses it below 9.0, though the chips of 8.9 have the format",
        "say fp8: false and bf16: true, or take an H100 or newer",
    ),
)
_ATTENTIONS = {
    "flash_attention_2": ((8, 0), "flash attention 2"),
    "kernels-community/flash-attn2": ((8, 0), "flash attention 2"),
    "flash_attention_3": ((9, 0), "flash attention 3"),
    "kernels-community/flash-attn3": ((9, 0), "flash attention 3"),
    "flash_attention_4": ((9, 0), "flash attention 4"),
    "fp8": ((9, 0), "fp8 attention"),
    "sage": ((8, 0), "SageAttention"),
    "kernels-community/sage-attention": ((8, 0), "SageAttention"),
}
_OPTIMIZERS = {"ao_adamw_fp8": ((8, 9), "adamw_torch_fused")}


def unknown(look: Look) -> Iterator[Problem]:
    """A GPU that nothing is known of: a new one, or a slip of the hand."""
    if look.gpu is not None and gpus.capability(look.gpu) is None and gpus.known(look.gpu) is None:
        yield Problem(
            "warning",
            look.recipe.origin,
            f"no GPU called {shown(look.gpu)} is known here: what it can do is not checked",
            f"known are {', '.join(gpus.near(look.gpu))}",
        )


def capabilities(look: Look) -> Iterator[Problem]:
    """What the GPU's generation does not have."""
    if look.gpu is None or (has := gpus.capability(look.gpu)) is None:
        return
    name = f"{shown(look.gpu)} (compute capability {gpus.spelled(has)})"
    if has < OLDEST_CAPABILITY and look.recipe.launch.image is None:
        yield Problem(
            "error",
            look.recipe.origin,
            f"{name} is too old for the CUDA 13 of the axolotl environment: nothing would start",
            f"take a GPU of {gpus.spelled(OLDEST_CAPABILITY)} or newer, such as T4 or L4",
        )
    for needs in _NEEDS:
        key = next((key for key in needs.keys if look.config.get(key) is True), None)
        if key and has < needs.least:
            yield look.error((key,), f"{name} has no {needs.says}: {needs.then}", needs.fix)
    yield from _attention(look, name, has)
    optimizer = look.config.get("optimizer")
    if isinstance(optimizer, str) and optimizer in _OPTIMIZERS and has < _OPTIMIZERS[optimizer][0]:
        yield look.error(
            ("optimizer",),
            f"{name} has no fp8, which {optimizer} keeps its states in: its first step fails",
            f"say optimizer: {_OPTIMIZERS[optimizer][1]}",
        )


def _attention(look: Look, name: str, has: tuple[int, int]) -> Iterator[Problem]:
    kind = attention_of(look.config)
    flags = [
        flag for flag, impl in ATTENTION_FLAGS.items() if look.config.get(flag) and impl == kind
    ]
    key = flags[0] if flags else "attn_implementation"
    if kind in _ATTENTIONS:
        least, says = _ATTENTIONS[kind]
        only_hopper = kind in {"flash_attention_3", "kernels-community/flash-attn3"}
        if has < least or (only_hopper and has[0] != 9):
            instead = "sdp_attention: true" if flags else "attn_implementation: sdpa"
            yield look.error(
                (key,),
                f"{name} cannot run {says}: axolotl takes it, and the first step fails",
                f"say {instead} in its place",
            )
    on_bf16 = look.config.get("bf16") or look.config.get("bfloat16")
    if look.config.get("sample_packing") and kind == "sdpa" and on_bf16 and (8, 0) <= has < (9, 0):
        yield look.warning(
            ("sample_packing",),
            f"on {name}, sdpa with sample_packing in bf16 may give wrong gradients; axolotl warns, "
            "and trains",
            "say attn_implementation: flash_attention_2",
        )


def spread(look: Look) -> Iterator[Problem]:
    """Several GPUs, and what does not work on them."""
    if look.gpus < 2:
        return
    on = next((key for key in LORA_KERNELS if look.config.get(key)), None)
    inside = look.config.get("fsdp_config")
    version = look.config.get("fsdp_version")
    if on and isinstance(inside, dict) and str(version or inside.get("version")) != "2":
        yield look.error(
            (on,),
            f"{on} does not work on {look.gpus} GPUs with FSDP1: axolotl refuses it",
            "add fsdp_version: 2",
        )
    adapter = look.config.get("adapter")
    sharded = look.config.get("deepspeed") or look.config.get("fsdp") or inside
    if not adapter and not sharded:
        yield look.warning(
            ("base_model",),
            f"all weights are trained and each of the {look.gpus} GPUs holds a whole copy of them",
            "to share them out: deepspeed: deepspeed_configs/zero3_bf16.json",
        )


def too_many_gpus(look: Look) -> Iterator[Problem]:
    """More rows in one step than there are: it needs the rows to be counted before."""
    rows = look.tally.all_rows(look)
    if not rows:
        return
    per_gpu = number(look.config.get("micro_batch_size", 1)) or 0
    share = number(look.config.get("val_set_size")) or 0
    kept = rows - int(share if share > 1 else rows * share)
    at_once = int(per_gpu) * max(look.gpus, 1)
    if share > 1 and kept < 1:
        yield look.error(
            ("val_set_size",),
            f"val_set_size keeps {share:g} rows for evaluation, and there are {rows:,}: axolotl "
            "fails when it splits the data",
            "a share is usual: val_set_size: 0.05",
        )
    elif 0 < kept < at_once and not look.config.get("pretraining_dataset"):
        many = f" on {look.gpus} GPUs" if look.gpus > 1 else ""
        make = look.error if look.gpus > 1 else look.warning
        yield make(
            ("micro_batch_size",),
            f"one step{many} takes {at_once:,} rows, and there are {kept:,}: the rest of the GPUs "
            "would have nothing to do"
            if look.gpus > 1
            else f"one step takes {at_once:,} rows, and there are {kept:,}",
            f"say micro_batch_size: {max(1, kept // max(look.gpus, 1))}, or take fewer GPUs",
        )


def losable(look: Look) -> Iterator[Problem]:
    """A run that may be cut short, and leaves nothing to go on from."""
    if not look.goes_on:
        return
    key = "save_strategy"
    said = look.config.get(key)
    if (said == "no" or said is False) and not look.config.get("save_steps"):
        yield look.error(
            (key,),
            f'save_strategy: "no" makes no checkpoint, and with {look.goes_on} the run is to go on '
            "from one: it would begin again",
            "say save_strategy: epoch, or save_steps: 100",
        )
