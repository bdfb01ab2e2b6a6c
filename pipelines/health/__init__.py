"""Personas' health: what they use and do, by the minute and by the hour, and what is told of.

| module | owns |
| --- | --- |
| `measure` | `personas.measure`, which fans out, and `persona.measure` |
| `rollup` | `health.rollup`: hours that are over |
| `readings` | what was read of a container or process, and what it comes to |
| `containers` | reading a container through the Docker Engine API |
| `processes` | reading a process |
| `thresholds` | when a measure is told of |
"""
