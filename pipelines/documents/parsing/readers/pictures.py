"""Pictures of text, read by RapidOCR, whose models are in its package: PNG, JPEG, and pages of PDFs that have no text.

Needs the extra `ocr`. Why it and not another: docs/decisions/0008-scans.md.
"""

from functools import cache
from io import BytesIO
from typing import Any, Final

from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from pipelines.documents.errors import TooLargeError
from pipelines.documents.parsing.formats import too_odd
from pipelines.documents.parsing.types import Block, Reading, Source, normalise

MOST_SIDE: Final = 2_500
"""Pixels of a picture's longer side that are looked at."""
_MOST_PIXELS: Final = 100_000_000
Image.MAX_IMAGE_PIXELS = None  # it is we who look at the size, and can say what to do
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
            lines = lines_of(_as_seen(picture))
    except (UnidentifiedImageError, OSError, SyntaxError):
        raise too_odd("picture") from None
    text = "\n".join(lines)
    return Reading(None, [Block(text, "text", 1, None)] if text.strip() else [])


def lines_of(picture: Image.Image) -> list[str]:
    """Return the lines of text in a picture, from the top. Raises MemoryError, whatever the engine calls it."""
    import numpy as np

    try:
        found = engine()(np.asarray(picture))
    except Exception as error:
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            raise MemoryError from error
        raise
    return [normalise(line).strip() for line in found.txts or ()]


@cache
def engine() -> Any:
    """Load what reads, two seconds, once a process; call it before the limits of a document hold."""
    import cv2
    import numpy as np
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)  # each thread's stack would count against the address space
    made = RapidOCR(params=_PARAMETERS)
    # Its models are loaded when something is found for the first time.
    sample = Image.new("RGB", (400, 80), "white")
    ImageDraw.Draw(sample).text((20, 20), "Greenroom", fill="black", font_size=32)
    made(np.asarray(sample))
    return made


def _as_seen(picture: Image.Image) -> Image.Image:
    """Return a picture as it would be shown on paper: upright, on white, of 8 bits."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    shown = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
