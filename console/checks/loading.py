"""`python -m console.checks.loading MODEL`: load a model as workers do, embed a text with it, and end."""

import sys

from core.errors import GreenroomError
from core.settings import load_settings


def main() -> int:
    """Return 0 where the model works; else say why not on standard error."""
    from pipelines.documents.embedding import Embedder

    wanted = load_settings().embedding
    try:
        embedder = Embedder.load(sys.argv[1], dtype=wanted.dtype, batch_tokens=wanted.batch_tokens, threads=1)
        embedder.embed(["a text to try it with"])
    except (GreenroomError, ImportError, OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())[:500]}\n")
        return 1
    embedder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
