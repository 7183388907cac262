"""The shape of a language model: what its memory and its time follow from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LINEARS = (*ATTENTION, *MLP)
"""The linear layers of a block, by the names that Llama gave them."""

FUSED_EXPERTS = frozenset({"gpt_oss", "llama4", "dbrx", "granitemoe", "granitemoehybrid"})
"""Families whose experts are one tensor, no linear layers: adapters pass them by."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer. Counts are of parameters, not bytes.

    heads, kv_heads, head_dim  the attention's; grouped queries have fewer kv_heads than heads
    intermediate               width of a dense block's MLP
    mlp_mats                   3 for a gated MLP (gate, up, down), 2 for a plain one
    tied                       the output head shares the embedding's weights
    experts, top_k             of a mixture: all experts are resident, `top_k` of them compute
    expert_intermediate        width of one expert
    dense_layers               blocks before the first mixture block
    params, active_params      of the whole model, and of what one token passes through
    source                     where the numbers were read, for people
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    params: int
    active_params: int
    mlp_mats: int = 3
    experts: int = 0
    top_k: int = 0
    expert_intermediate: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    family: str = ""
    source: str = ""

    @cached_property
    def query_width(self) -> int:
        """Features of all queries of one token; also of the attention's output."""
        return self.heads * self.head_dim

    @cached_property
    def kv_width(self) -> int:
        """Features of all keys of one token; the values have as many."""
        return self.kv_heads * self.head_dim

    @cached_property
    def embedding(self) -> int:
        """Parameters of the embedding; an untied head has as many again."""
        return self.vocab * self.hidden

    @cached_property
    def outer(self) -> int:
        """Parameters outside the blocks: the embedding, and the head where it has its own."""
        return self.embedding if self.tied else 2 * self.embedding

    @cached_property
    def block_params(self) -> int:
        """Parameters of all blocks together, from the exact total."""
        return max(self.params - self.outer, 0)

    @cached_property
    def active_block_params(self) -> int:
        """Parameters of the blocks that one token is multiplied with."""
        return max(self.active_params - self.outer, 0)

    @cached_property
    def mixture(self) -> bool:
        """True for a mixture of experts."""
        return self.experts > 0

    @cached_property
    def active_intermediate(self) -> int:
        """MLP width that one token's activations have, over its experts."""
        if not self.mixture:
            return self.intermediate
        return self.expert_intermediate * (self.top_k + self.shared_experts)

    @cached_property
    def expert_params(self) -> int:
        """Parameters of all routed experts."""
        each = self.mlp_mats * self.hidden * self.expert_intermediate
        return (self.layers - self.dense_layers) * self.experts * each

    def adapter_params(self, targets: tuple[str, ...], rank: int, *, experts: bool = True) -> int:
        """Parameters of a LoRA of `rank` on `targets` (each of LINEARS, or embed_tokens, lm_head).

        Each target of `a` inputs and `b` outputs gets rank * (a + b)
        (Hu et al. 2021, arXiv:2106.09685, section 4.1). An MLP target is on every expert, if
        `experts`, and always on the shared ones.
        """
        return sum(self._adapter_dims(target, experts) for target in targets) * rank

    def _adapter_dims(self, target: str, experts: bool) -> int:
        if target in ("embed_tokens", "lm_head"):
            return self.vocab + self.hidden
        sizes = {
            "q_proj": self.hidden + self.query_width,
            "k_proj": self.hidden + self.kv_width,
            "v_proj": self.hidden + self.kv_width,
            "o_proj": self.hidden + self.query_width,
        }
        if target in sizes:
            return self.layers * sizes[target]
        if target == "gate_proj" and self.mlp_mats == 2:
            return 0
        if not self.mixture:
            return self.layers * (self.hidden + self.intermediate)
        routed = experts and self.family not in FUSED_EXPERTS
        copies = (self.experts if routed else 0) + self.shared_experts
        mixed = (self.layers - self.dense_layers) * copies
        return mixed * (self.hidden + self.expert_intermediate) + self.dense_layers * (
            self.hidden + self.intermediate
        )


def counted(shape: Shape) -> tuple[int, int]:
    """Parameters (all, active) by the shape alone, where no exact count is known.

    Linear layers, embedding and head; a norm of `hidden` twice a block and once at the end.
    """
    attention = 2 * shape.hidden * (shape.query_width + shape.kv_width)
    dense = shape.mlp_mats * shape.hidden * shape.intermediate
    expert = shape.mlp_mats * shape.hidden * shape.expert_intermediate
    if shape.mixture:
        router = shape.hidden * shape.experts
        every = (shape.experts + shape.shared_experts) * expert + router
        used = (shape.top_k + shape.shared_experts) * expert + router
    else:
        every = used = dense
    mixed = shape.layers - shape.dense_layers if shape.mixture else shape.layers
    rest = shape.layers - mixed
    fixed = (
        shape.layers * (attention + 2 * shape.hidden) + rest * dense + shape.outer + shape.hidden
    )
    return fixed + mixed * every, fixed + mixed * used
