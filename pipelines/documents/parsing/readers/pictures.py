"""Pictures of text, read by RapidOCR, whose models are in its package: PNG, JPEG, and pages of PDFs that have no text.

Needs the extra `ocr`. Why it and not another: docs/decisions/0008-scans.md.
"""

from functools import cache
from io import BytesIO
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from pipelines.documents.errors import TooLargeError
from pipelines.documents.parsing.formats import too_odd
from pipelines.documents.parsing.types import Block, Reading, Source, normalise

MOST_SIDE: Final = 2_500
"""Pixels of a picture's longer side that are looked at."""
_MOST_PIXELS: Final = 100_000_000
# One line at a time: six, its own choice, take half a gigabyte more, and no less time on one core.
_PARAMETERS: Final[dict[str, Any]] = {
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
    "Rec.rec_batch_num": 1,
}


def read(source: Source) -> Reading:
    """Read a picture. Raises BrokenFileError, TooLargeError."""
    try:
        with Image.open(BytesIO(source.data)) as picture:
            width, height = picture.size
            if width * height > _MOST_PIXELS:
                raise TooLargeError(
                    f"The picture has {width} by {height} pixels, {_MOST_PIXELS} are allowed; scale it."
                )
            picture.thumbnail((MOST_SIDE, MOST_SIDE))
            lines = lines_of(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise too_odd("picture") from None
    text = "\n".join(lines)
    return Reading(None, [Block(text, "text", 1, None)] if text.strip() else [])


def lines_of(picture: Any) -> list[str]:
    """Return the lines of text in a picture of PIL, from the top."""
    import numpy as np

    found = engine()(np.asarray(picture))
    return [normalise(line).strip() for line in found.txts or ()]


@cache
def engine() -> Any:
    """Load what reads, a second, once a process; call it before the limits of a document hold."""
    from rapidocr import RapidOCR

    return RapidOCR(params=_PARAMETERS)
