"""What a queue that has been in use for long weighs, and what it costs (`make bench-history`).

| part | asks | module |
| --- | --- | --- |
| `finished` | do ten million finished tasks slow the engine down? | `alternating` |
| `deferred` | do a million tasks that are due in the future? | `alternating` |
| `held` | what does a transaction do that stays open for ten minutes? | `lasting` |
| `steady` | are dead tuples and indexes bounded under half an hour of load? | `lasting` |
| `weight` | how many statements a minute, and how much memory, are idle processes? | `weight` |

`subject` is a database with Greenroom's schema, and two engines that can be let loose on it: those of the bench beside
the peers, whose servers this one uses too.
"""
