"""Archived rows as they come back: to the byte, page by page, and only what is not there.

| module | owns |
| --- | --- |
| `shape` | what of an archive has no place in the schema of today |
| `choosing` | the rows of a part that are asked for, with what went along with them |
| `encoding` | rows of a file as the text that a page is written by |
| `verifying` | files as they stand in storage, compared with what the database says |
| `task` | `archive.restore`: where it stands, what came of it |

Only `shape` and `task` may be imported by what has no use for pyarrow. A row that is in two parts comes from the newer
one; whatever stands in the table already is left as it is.
"""
