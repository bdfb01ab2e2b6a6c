"""How an adapter is called: its task as JSON in its one argument, its answer as JSON on the last line it prints."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1"}
WARM_UP = [f"A sentence that is embedded before anything is measured, number {n}." for n in range(32)]


@dataclass(frozen=True)
class Job:
    """What to index: the files of a folder, in chunks of so many of the model's tokens, into an empty database.

    `host` is the folder of the server's socket. `dtype` is fp32 or bf16, `batch` None for the framework's own.
    """

    host: str
    user: str
    database: str
    folder: str
    model: str
    tokens: int
    overlap: int
    dtype: str
    batch: int | None

    def url(self, driver: str) -> str:
        """Return SQLAlchemy's address of the database."""
        return f"postgresql+{driver}://{self.user}@/{self.database}?host={self.host}"

    def texts(self) -> list[tuple[str, str]]:
        """Return names and contents of the files."""
        return [(path.name, path.read_text()) for path in sorted(Path(self.folder).iterdir())]


@dataclass(frozen=True)
class Answer:
    """How long it took from the first text that was handed in until the last vector was committed."""

    chunks: int
    seconds: float
    versions: dict[str, str]


def run(prepare: Callable[[Job], Callable[[list[tuple[str, str]]], int]], packages: list[str]) -> None:
    """Prepare (the model is loaded and warm then), index, answer. What `prepare` returns gives the count of chunks."""
    os.environ.update(OFFLINE)
    job = Job(**json.loads(sys.argv[1]))
    texts = job.texts()
    index = prepare(job)
    begun = time.perf_counter()
    chunks = index(texts)
    seconds = time.perf_counter() - begun
    answer = Answer(chunks, seconds, {package: version(package) for package in packages})
    sys.stdout.write("\n" + json.dumps(asdict(answer)) + "\n")
