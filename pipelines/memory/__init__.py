"""A persona's memory, which condenses itself.

| module | owns |
| --- | --- |
| `payloads` | what a producer imports |
| `tasks` | the task types, their schedule, and `memories.curate`, which fans out |
| `curate` | `memory.curate`: reads a page, has it summed up, writes it |
| `grouping` | which chunks belong together |
| `summarising` | what a few related chunks come to in fewer words |
"""
