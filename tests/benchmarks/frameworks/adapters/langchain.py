"""LangChain: its indexing API over its recursive splitter and its embedding, into its vector store on pgvector.

What it has indexed is kept in memory, not in a table: the faster of its record managers.
"""

from collections.abc import Callable
from typing import Any

from tests.benchmarks.frameworks.adapters.protocol import WARM_UP, Job, run


def prepare(job: Job) -> Callable[[list[tuple[str, str]]], int]:
    """Return what indexes texts; its model is warm."""
    import torch
    from langchain_core import indexing  # type: ignore[import-not-found]
    from langchain_core.documents import Document  # type: ignore[import-not-found]  # the frameworks' environment has it
    from langchain_huggingface import HuggingFaceEmbeddings  # type: ignore[import-not-found]
    from langchain_postgres import PGVector  # type: ignore[import-not-found]
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # type: ignore[import-not-found]

    model: dict[str, Any] = {"device": "cpu", "local_files_only": True}
    if job.dtype == "bf16":
        model["model_kwargs"] = {"dtype": torch.bfloat16}
    encode = {} if job.batch is None else {"batch_size": job.batch}
    embedding = HuggingFaceEmbeddings(model_name=job.model, model_kwargs=model, encode_kwargs=encode)
    embedding.embed_documents(WARM_UP)
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        embedding._client.tokenizer, chunk_size=job.tokens, chunk_overlap=job.overlap
    )
    store = PGVector(embeddings=embedding, collection_name="chunks", connection=job.url("psycopg"))
    records = indexing.InMemoryRecordManager("chunks")
    records.create_schema()

    def index(texts: list[tuple[str, str]]) -> int:
        documents = [Document(page_content=text, metadata={"source": name}) for name, text in texts]
        chunks = splitter.split_documents(documents)
        done = indexing.index(chunks, records, store, cleanup=None, source_id_key="source", key_encoder="sha256")
        return int(done["num_added"])

    return index


if __name__ == "__main__":
    run(prepare, ["langchain-core", "langchain-postgres", "sentence-transformers", "torch"])
