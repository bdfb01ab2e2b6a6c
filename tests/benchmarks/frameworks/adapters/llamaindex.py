"""LlamaIndex: an IngestionPipeline of its sentence splitter and its embedding, into its vector store on pgvector."""

from collections.abc import Callable
from typing import Any

from tests.benchmarks.frameworks.adapters.protocol import WARM_UP, Job, run


def prepare(job: Job) -> Callable[[list[tuple[str, str]]], int]:
    """Return what indexes texts; its model is warm."""
    import torch
    from llama_index.core import Document  # type: ignore[import-not-found]  # the frameworks' environment has it
    from llama_index.core.ingestion import IngestionPipeline  # type: ignore[import-not-found]
    from llama_index.core.node_parser import SentenceSplitter  # type: ignore[import-not-found]
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding  # type: ignore[import-not-found]
    from llama_index.vector_stores.postgres import PGVectorStore  # type: ignore[import-not-found]

    given: dict[str, Any] = {} if job.batch is None else {"embed_batch_size": job.batch}
    if job.dtype == "bf16":
        given["model_kwargs"] = {"dtype": torch.bfloat16}
    embedding = HuggingFaceEmbedding(model_name=job.model, device="cpu", local_files_only=True, **given)
    embedding.get_text_embedding_batch(WARM_UP)
    count = embedding._model.tokenizer.tokenize  # its default would be fetched from the network
    splitter = SentenceSplitter(chunk_size=job.tokens, chunk_overlap=job.overlap, tokenizer=count)
    store = PGVectorStore.from_params(
        connection_string=job.url("psycopg2"),
        async_connection_string=job.url("asyncpg"),
        table_name="chunks",
        embed_dim=384,
    )
    pipeline = IngestionPipeline(transformations=[splitter, embedding], vector_store=store)

    def index(texts: list[tuple[str, str]]) -> int:
        documents = [Document(text=text, metadata={"name": name}) for name, text in texts]
        return len(pipeline.run(documents=documents))

    return index


if __name__ == "__main__":
    run(prepare, ["llama-index-core", "llama-index-vector-stores-postgres", "sentence-transformers", "torch"])
