"""What an optimizer keeps for every parameter it trains, and what a step of it touches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """Bytes per trained parameter of `width` bytes (4 in 32 bits, 2 in bf16).

    states  how many values are kept, in the parameter's own width; 8-bit states are 1 byte each
    fixed   bytes each state takes whatever the width; None where it follows the width
    foreach a step makes a temporary copy of one value for all parameters at once
    paged   its states can leave the GPU when room is short (CUDA's unified memory)
    blocks  states are quantised by bitsandbytes, which keeps those of an embedding in 32 bits as
            Hugging Face's trainer asks it to
    """

    states: float
    fixed: float | None = None
    foreach: bool = False
    paged: bool = False
    blocks: bool = False

    def state_bytes(self, width: float) -> float:
        """Bytes kept per trained parameter."""
        each = width if self.fixed is None else self.fixed
        return self.states * each

    def step_bytes(self, width: float) -> float:
        """Bytes that exist only during the step, per trained parameter."""
        return width if self.foreach else 0.0

    def traffic(self, width: float) -> float:
        """Bytes read and written by a step, per trained parameter.

        Weight, gradient and states are read, weight and states written; the foreach form goes
        over them in several passes, about three times as much.
        """
        once = 3 * width + 2 * self.state_bytes(width)
        return once * (3 if self.foreach else 1)


_EIGHT = 1.0 + 4 / 256
"""An 8-bit state with an fp32 scale for each block of 256 (Dettmers et al., arXiv:2110.02861)."""

# adamw keeps two moments (Loshchilov & Hutter, arXiv:1711.05101), lion and sgd's momentum one
# (arXiv:2302.06675), adafactor a row and a column (arXiv:1804.04235), muon one moment.
_ADAM = Optimizer(2, foreach=True)
_TABLE: dict[str, Optimizer] = {
    "adamw_torch": _ADAM,
    "adamw": _ADAM,
    "adamw_hf": Optimizer(2),
    "adamw_torch_fused": Optimizer(2),
    "adamw_apex_fused": Optimizer(2),
    "adamw_anyprecision": Optimizer(2),
    "optimi_adamw": Optimizer(2, foreach=True),
    "adopt_adamw": _ADAM,
    "stable_adamw": _ADAM,
    "grokadamw": Optimizer(3, foreach=True),
    "adamw_bnb_8bit": Optimizer(2, _EIGHT, blocks=True),
    "adamw_8bit": Optimizer(2, _EIGHT, blocks=True),
    "adamw_torch_8bit": Optimizer(2, _EIGHT),
    "ao_adamw_8bit": Optimizer(2, _EIGHT),
    "ao_adamw_fp8": Optimizer(2, _EIGHT),
    "flash_adamw": Optimizer(2, _EIGHT),
    "adamw_torch_4bit": Optimizer(2, 0.5 + 4 / 128),
    "ao_adamw_4bit": Optimizer(2, 0.5 + 4 / 128),
    "paged_adamw_32bit": Optimizer(2, 4.0, paged=True),
    "paged_adamw": Optimizer(2, 4.0, paged=True),
    "paged_adamw_8bit": Optimizer(2, _EIGHT, paged=True),
    "ademamix": Optimizer(3),
    "ademamix_8bit": Optimizer(3, _EIGHT, blocks=True),
    "paged_ademamix_32bit": Optimizer(3, 4.0, paged=True),
    "paged_ademamix_8bit": Optimizer(3, _EIGHT, paged=True),
    "lion": Optimizer(1),
    "lion_32bit": Optimizer(1, 4.0),
    "lion_pytorch": Optimizer(1),
    "lion_8bit": Optimizer(1, _EIGHT, blocks=True),
    "paged_lion_32bit": Optimizer(1, 4.0, paged=True),
    "paged_lion_8bit": Optimizer(1, _EIGHT, paged=True),
    "lion/adamw_fused": Optimizer(2),
    "adafactor": Optimizer(0.01),
    "came_pytorch": Optimizer(1.02),
    "sgd": Optimizer(0),
    "schedule_free_sgd": Optimizer(1),
    "schedule_free_adamw": _ADAM,
    "schedule_free_radam": _ADAM,
    "adagrad": Optimizer(1, foreach=True),
    "rmsprop": Optimizer(1, foreach=True),
    "rmsprop_bnb": Optimizer(1),
    "rmsprop_bnb_8bit": Optimizer(1, _EIGHT, blocks=True),
    "rmsprop_bnb_32bit": Optimizer(1, 4.0),
    "muon": Optimizer(1.2),
    "dion": Optimizer(1.2),
    "galore_adamw": Optimizer(0.5),
    "galore_adamw_8bit": Optimizer(0.25),
    "galore_adafactor": Optimizer(0.1),
    "apollo_adamw": Optimizer(0.5),
    "lomo": Optimizer(0),
    "adalomo": Optimizer(0.01),
    "adamc": _ADAM,
}


def find(name: str) -> Optimizer:
    """The optimizer of that name; one that is not known by it goes by the words in it.

    Without a word that is known it is taken for a plain AdamW, the dearest of the usual ones.
    """
    plain = _plain(name)
    if plain in _TABLE:
        return _TABLE[plain]
    paged, eight = "paged" in plain, "8bit" in plain or "8_bit" in plain
    for word, like in _BY_WORD.items():
        if word in plain:
            width = f"{'paged_' if paged else ''}{like}{'_8bit' if eight else ''}"
            return _TABLE.get(width, _TABLE.get(f"{like}_8bit" if eight else like, _ADAM))
    return _ADAM


_BY_WORD = {
    "fused": "adamw_torch_fused",
    "lion": "lion",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "muon": "muon",
    "adam": "adamw",
}


def _plain(name: str) -> str:
    lower = name.lower().replace("optimizernames.", "").replace("-", "_").replace(" ", "_")
    return lower.removesuffix("_layerwise")


def known(name: str) -> bool:
    """True when `find` does not have to guess."""
    return _plain(name) in _TABLE
