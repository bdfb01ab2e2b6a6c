"""From a committed row to a searchable chunk, beside the pipelines of LlamaIndex and LangChain."""
