"""What related chunks come to in fewer words, and who says so.

| module | owns |
| --- | --- |
| `base` | sources, summary, the protocol of whoever summarises |
| `sentences` | a text's sentences |
| `facts` | what a text names: numbers, dates, names, addresses, quotes; and which of those no source holds |
| `extractive` | sentences of the sources, chosen by their vectors: the default, on this machine |
| `chat` | a model behind an endpoint of OpenAI's protocol, believed only after a look |
| `answers` | what such a model answers, read within bounds |
| `summarisers` | who summarises for a space, by the settings |
| `booking` | what a summary cost, booked to its tenant |
"""

from pipelines.memory.summarising.base import Source, Summariser, Summary

__all__ = ["Source", "Summariser", "Summary"]
