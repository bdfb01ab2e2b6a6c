"""The bench: the engine beside plain psycopg, the embedder beside plain sentence-transformers. Loaded late."""
