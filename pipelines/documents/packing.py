"""A model's weights in the order that the processor's matrix units read them, laid out once and not at every product.

The two operations are torch's own, which it uses for what it compiles and does not publish: where one is missing, the
model computes as it came. Figures: docs/decisions/0003-embedding-settings.md.
"""

from typing import Final

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

_OPERATIONS: Final = ("_reorder_linear_weight", "_linear_pointwise")
# Products of about so many rows are expected: the tokens of a batch.
_ROWS: Final = 2048


class _PackedLinear(nn.Module):
    """A linear layer, followed by a GELU where `activation` says "gelu"."""

    def __init__(self, linear: nn.Linear, activation: str) -> None:
        super().__init__()
        self.bias = linear.bias
        self._activation = activation
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    def forward(self, rows: Tensor) -> Tensor:
        # Its last two arguments: scalars of the activation, of which these have none, and which approximation of it.
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self.bias, self._activation, [], "none")
        return found


def pack(model: nn.Module) -> int:
    """Pack the linear layers of a model in bf16, in place; return how many: none where torch has no way to."""
    if not torch._C._has_mkldnn or not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS):
        return 0
    layers = [
        (owner, name, layer)
        for owner in model.modules()
        for name, layer in owner.named_children()
        if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.bfloat16
    ]
    with torch.inference_mode():
        for owner, name, layer in layers:
            # BERT and its kin call a layer's `dense`, then its `intermediate_act_fn`: both in one go.
            has_gelu = isinstance(getattr(owner, "intermediate_act_fn", None), GELUActivation)
            setattr(owner, name, _PackedLinear(layer, "gelu" if has_gelu else "none"))
            if has_gelu:
                owner.intermediate_act_fn = nn.Identity()
    return len(layers)
