"""The documents pipeline: `document.ingest` → `document.chunk` → `chunks.embed`, and how to search what came of it.

A version is built beside the one that readers see: its text, chunks and vectors are written under a higher version
number, and the last embedding task swaps it in with one commit (invariant I8). Text that the tenant has embedded before
is not embedded again. `payloads` is what producers import, `tasks` what workers register.
"""
