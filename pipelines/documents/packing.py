"""A model's weights in the order that the processor's matrix units read them, laid out once and not at every product.

The operations are torch's own, which it uses for what it compiles and does not publish: where one is missing, or the
model is of a kind that is not known, it computes as it came. Figures: docs/decisions/0003-embedding-settings.md.
"""

from typing import Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import GELUActivation

_OPERATIONS: Final = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
# Encoders that do nothing with a linear layer but call it; others look at its weights, which are not where they were.
_MODEL_TYPES: Final = frozenset({"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
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
    """Pack the linear layers of a model in bf16, in place; return how many: none where torch or the model cannot."""
    if not isinstance(model, PreTrainedModel) or model.config.model_type not in _MODEL_TYPES or not _can_pack():
        return 0
    layers = [
        (owner, name, layer)
        for owner in model.modules()
        for name, layer in owner.named_children()
        if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16
    ]
    with torch.inference_mode():
        for owner, name, layer in layers:
            # BERT and its kin call a layer's `dense`, then its `intermediate_act_fn`: both in one go.
            has_gelu = isinstance(getattr(owner, "intermediate_act_fn", None), GELUActivation)
            setattr(owner, name, _PackedLinear(layer, "gelu" if has_gelu else "none"))
            if has_gelu:
                owner.intermediate_act_fn = nn.Identity()
    return len(layers)


def _can_pack() -> bool:
    operations = torch.ops.mkldnn
    return all(hasattr(operations, name) for name in _OPERATIONS) and bool(operations._is_mkldnn_bf16_supported())
