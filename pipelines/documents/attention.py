"""Which tokens of a text are padding, said to torch's fused attention by numbers that it adds, not by truth values.

transformers hands it a matrix of truth values for each text; the kernel makes numbers of them at each layer. One row of
numbers a text, seen as a matrix, gives the same, and the whole forward pass takes a tenth less. Where nothing is padded
there is no mask at all. Figures: docs/decisions/0003-embedding-settings.md.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

_NAME: Final = "greenroom_added_mask"
# Encoders whose scores get nothing but the mask added: MPNet's, for one, have a bias of their own.
_MODEL_TYPES: Final = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})


def add_masks(model: nn.Module) -> bool:
    """Have a model add its masks, in place; return whether it does: one without torch's fused attention stays."""
    if not isinstance(model, PreTrainedModel) or model.config.model_type not in _MODEL_TYPES:
        return False
    if model.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(_NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(_NAME, _mask)
    model.set_attn_implementation(_NAME)
    return True


def _mask(
    batch_size: int, q_length: int, kv_length: int, *, attention_mask: Tensor | None = None, **given: Any
) -> Tensor | None:
    """Return what is added to the scores, shaped (texts, 1, tokens, tokens): `transformers.masking_utils` calls it.

    Masks of another kind than "all tokens but padding", such as a window's, are made as transformers makes them.
    """
    is_plain = given.get("mask_function") is bidirectional_mask_function and q_length == kv_length
    if not is_plain or attention_mask is None or attention_mask.shape[-1] != kv_length:
        made: Tensor | None = sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **given)
        return made
    padding = attention_mask == 0
    if not padding.any():
        return None
    dtype = given["dtype"]
    added = torch.zeros(attention_mask.shape, dtype=dtype).masked_fill_(padding, torch.finfo(dtype).min)
    return added[:, None, None, :].expand(batch_size, 1, q_length, kv_length)
