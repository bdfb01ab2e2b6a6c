"""Archives: aged rows in storage, by table and month, read back and compared before they are deleted.

| module | owns |
| --- | --- |
| `columns` | Postgres' types as Arrow's and back, to the byte |
| `writing` | a part's files: what COPY gives, page by page, as Parquet |
| `reading` | row groups back into what COPY takes |
| `manifest` | `manifest.json`, which says what a part holds |
| `store` | where archives stand: put, fetch, delete, list |
| `parts` | one part from its first row to `verified` |
| `archiving` | the step of a run: parts, and the delete of what they hold |

Only `manifest` and `store` may be imported by what has no use for pyarrow. The invariant: a row leaves its table only
when a file that was read back from storage gave the same row, to the hash of its text; see
docs/decisions/0012-archives.md.
"""
