"""Greenroom beside its peers: same Postgres, same Redis, two worker processes each, in one run (`make bench-peers`).

    __main__ ── measures ── leg ──▶ adapters.<peer>, one process each, under the peers' own interpreter
                    │
                 servers: a throw-away Postgres and a throw-away Redis

| module | owns |
| --- | --- |
| `legs` | who takes part, in which variants |
| `servers` | the two servers; a database of its own for each measurement |
| `leg` | an adapter's processes and what they answer |
| `measures` | what is measured, and how |
| `report` | the table for people, and who ran on what |
| `adapters` | one module a peer; `adapters.common` is the protocol that they speak |

An adapter imports the standard library, its peer and `adapters.common`, nothing of ours: it runs in an environment that
has the peers (`requirements.txt`) and not Greenroom. `adapters.greenroom` runs in ours.
"""
