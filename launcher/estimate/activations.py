"""What the forward pass keeps for the backward pass: bytes per token.

The rules are those of autograd: an operation keeps what its own backward formula needs. They were
derived from the operations of Hugging Face's blocks, and checked by counting the storages that
PyTorch keeps alive (scripts/count_activations.py; docs/estimating.md has its figures).
"""

from __future__ import annotations

from launcher.estimate.setup import Setup
from launcher.estimate.shape import Shape

_ATTENTION = ("q_proj", "k_proj", "v_proj")


def residual_bytes(setup: Setup) -> int:
    """Bytes of one feature of the residual stream: as wide as the embedding's weights."""
    return 4 if setup.wide_stream else 2


def per_layer(shape: Shape, setup: Setup) -> float:
    """Bytes that one block keeps of one token without checkpointing."""
    lean = setup.fused_blocks or setup.compiled
    return (
        _norms(shape, setup, lean)
        + _attention(shape, setup)
        + _mlp(shape, setup, lean)
        + _adapters(shape, setup, lean)
    )


def _norms(shape: Shape, setup: Setup, lean: bool) -> float:
    """Two norms and their outputs.

    Hugging Face's RMSNorm keeps its input in fp32, and where its weight is trained the normalised
    input too; a fused one, and LayerNorm, keep the input as it is. Trained linear layers behind it
    keep the output.
    """
    wide = residual_bytes(setup)
    full = setup.method == "full"
    output = 2 if full else 0
    if lean or shape.mlp_mats == 2:
        return 2 * shape.hidden * (wide + output)
    if wide == 4:
        # Normalised and output in 32 bits; under autocast also the casts of the linear layers.
        more = 8 if setup.precision == "fp32" else 9
        return 2 * shape.hidden * (4 + (more if full else 0))
    return 2 * shape.hidden * (4 + (2 if full else 0) + output)


def _attention(shape: Shape, setup: Setup) -> float:
    """Queries, keys, values and the output; written-out scores in fp32 and again in bf16."""
    width = 4 if setup.precision == "fp32" else 2
    kept = width * 2.0 * (shape.query_width + shape.kv_width)
    if setup.attention == "eager":
        return kept + 6.0 * shape.heads * setup.seq_len
    return kept + 4.0 * shape.heads


def _mlp(shape: Shape, setup: Setup, lean: bool) -> float:
    """Inside the MLP: gate and up, the activation and the product of both.

    The product is the down layer's input, which only a trained one keeps.
    """
    width = 4 if setup.precision == "fp32" else 2
    wide = shape.active_intermediate * width
    down = setup.method == "full"
    inner = 1 if shape.mlp_mats == 2 else 2 if lean else 3
    kept = wide * (inner + down)
    if shape.mixture:
        # Tokens are copied to their experts, and the experts' outputs weighed.
        kept += 2 * shape.top_k * shape.hidden * width + 8 * shape.experts
    return float(kept)


def _adapters(shape: Shape, setup: Setup, lean: bool) -> float:
    """Inputs that adapters keep: A's input, and B's, which is `rank` wide.

    Under autocast every adapter casts a copy of its own; in plain bf16 neighbours share one, and
    the attention's output is kept anyway. A dropout makes a copy and a mask of a byte.
    """
    if not setup.adapted:
        return 0.0
    copies = setup.dropout or (setup.autocast and not lean)
    inputs: dict[str, int] = {
        "q_proj": shape.hidden,
        "k_proj": shape.hidden,
        "v_proj": shape.hidden,
        "o_proj": shape.query_width,
        "gate_proj": shape.hidden if shape.mlp_mats == 3 else 0,
        "up_proj": shape.hidden,
        "down_proj": shape.active_intermediate,
    }
    hit = [target for target in setup.targets if target in inputs]
    narrow = 2.0 * setup.rank * len(hit)
    if copies:
        each = 3 if setup.dropout else 2
        return each * float(sum(inputs[target] for target in hit)) + narrow
    kept = 0
    if set(hit) & set(_ATTENTION):
        kept += shape.hidden
    if set(hit) & {"gate_proj", "up_proj"}:
        kept += shape.hidden
    if "down_proj" in hit:
        kept += shape.active_intermediate
    return 2.0 * kept + narrow


def _selected(shape: Shape) -> float:
    """What selective checkpointing keeps of a block.

    The attention's output, and of the linear layers' outputs every second one (torchtitan,
    `selective` by operations).
    """
    outputs = (
        2 * shape.query_width
        + 2 * shape.kv_width
        + 2 * shape.hidden
        + (shape.mlp_mats - 1) * shape.active_intermediate
    )
    return 2.0 * shape.query_width + 2.0 * (outputs - shape.query_width) / 2


def passing(shape: Shape, setup: Setup) -> float:
    """Bytes of one token that the backward pass of one block makes and drops again.

    The gradients of the widest tensors: those inside the MLP, and of the residual stream.
    """
    wide = residual_bytes(setup)
    return 4.0 * shape.active_intermediate + 2.0 * wide * shape.hidden


def kept(shape: Shape, setup: Setup) -> float:
    """Bytes of one token over all blocks at the end of the forward pass."""
    stream = residual_bytes(setup) * shape.hidden
    if setup.checkpointing == "full":
        return float(shape.layers * stream)
    if setup.checkpointing == "offload":
        return 2.0 * stream
    layer = per_layer(shape, setup)
    if setup.checkpointing == "selective":
        layer = stream + _selected(shape)
    return shape.layers * layer


def again(shape: Shape, setup: Setup) -> float:
    """Bytes of one token that a checkpointed block has while it is computed again."""
    if setup.checkpointing != "none":
        return per_layer(shape, setup) + passing(shape, setup)
    return passing(shape, setup)
