"""Measures candidates for the physical layout of the queue's tasks. Figures: docs/decisions/0001-queue-layout.md.

    python -m tests.benchmarks.queue_layout --dsn postgresql://postgres@localhost/scratch

A: one table partitioned by status, moves written out on the leaves. A2: the same, moves left to row movement. B: two
tables behind a view. C: one plain table, completion in place. Each layout stands in schemas of its own,
`layout_a_empty`, `layout_a_full` and so on, which the first run fills and later runs keep (`--rebuild` drops them).
Caveats: client and server share the machine; tasks are small; ids are version 7, so in order; PostgreSQL 18 is needed.
`sql/` is what was compared; the schema that came of it is in db/migrations/sql.

| module | owns |
| --- | --- |
| `bench` | the parameters of a run, connections, statistics |
| `candidates` | the layouts and their statements, read from `sql/` |
| `building` | creating, filling and emptying schemas |
| `engine` | the life of a task: claim, take, finish, timed |
| `throughput`, `inserts`, `deferred`, `races`, `reads`, `security`, `storage`, `locks` | a measure each, or two |
"""
