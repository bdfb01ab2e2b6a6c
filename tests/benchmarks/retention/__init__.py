"""Retention under load (`make retention-load`): aged rows are archived and deleted beside a queue that is at work.

| part | asks | module |
| --- | --- | --- |
| `load` | is each aged row in one archive and none left, whoever is killed; do claims wait longer? | `trial` |
| `drop` | does the drop of a month take longer the more rows it holds? | `dropping` |

`seeding` writes the rows and a book of them, which no code of Greenroom reads; `judging` reads the archives by itself
and compares them with the book. `producing` keeps the queue at its rate, `killing` kills the worker that retains. The
short form of `load` is tests/faults/test_retention.py.
"""
