"""From a file to a ParsedDocument, in a child process with limits of its own.

`types` is what comes out, `process` runs the child, `child` is its program, `formats` tells what a file is, `readers`
has a module for each family of formats. Nothing here reaches the network.
"""

from pipelines.documents.parsing.formats import is_read, media_type_of
from pipelines.documents.parsing.process import ParserProcess
from pipelines.documents.parsing.types import Block, BlockKind, ParsedDocument, ParseLimits, PlacedBlock

__all__ = [
    "Block",
    "BlockKind",
    "ParseLimits",
    "ParsedDocument",
    "ParserProcess",
    "PlacedBlock",
    "is_read",
    "media_type_of",
]
