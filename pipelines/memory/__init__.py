"""A persona's memory, which condenses itself.

| module | owns |
| --- | --- |
| `summarising` | what a few related chunks come to in fewer words |
"""
