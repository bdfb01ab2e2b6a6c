"""A small model of the suite's own, of another dimension than the packaged one: random weights, the same words."""

import json
import shutil
from pathlib import Path

from pipelines.documents.models import find_model

DIMENSIONS = 64


def make_small_model(folder: Path, *, seed: int = 7) -> Path:
    """Write a model as sentence-transformers saves one; return its folder, whose name is the model's."""
    import torch
    from transformers import BertConfig, BertModel

    packaged = find_model().folder
    shutil.copytree(packaged, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=json.loads((packaged / "config.json").read_text())["vocab_size"],
        hidden_size=DIMENSIONS,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * DIMENSIONS,
    )
    BertModel(config).save_pretrained(folder)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"word_embedding_dimension": DIMENSIONS}))
    return folder
