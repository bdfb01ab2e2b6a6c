"""`greenroom embeddings`: models side by side. A new one's space is filled while the old one's is searched."""

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from console import output
from console.options import AsJson
from console.progress import Stages
from console.runtime import Operation, operate
from console.watching import follow
from core.errors import GreenroomError, UsageError
from db import spaces
from db.connection import Connection, connect

if TYPE_CHECKING:
    from pipelines.documents.embedders import Model

app = typer.Typer(help="Embedding models side by side: status, fill, switch, drop.", no_args_is_help=True)
Memory = Annotated[str, typer.Option("--memory", help="What the server builds the index in: 512MB, 4GB.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or the id of its space.")]
_LOOK_SECONDS = 0.5


@app.command()
def status(as_json: AsJson = False) -> None:
    """List the spaces: which one searches read, how full each is, its index and what it weighs."""
    with operate() as operation, _owner(operation) as owner:
        found = [
            (space, spaces.count_vectors(owner, space.id), spaces.index_of(owner, space.id))
            for space in spaces.spaces(owner)
        ]
        chunks = spaces.count_chunks(owner)
    if as_json:
        rows = [asdict(space) | {"vectors": vectors} | asdict(index) for space, vectors, index in found]
        output.show_json({"chunks": chunks, "spaces": rows})
        return
    columns = ("model", "revision", "#dimensions", "index", "searched", "#vectors", "#missing", "#size", "id")
    output.show_table(
        columns,
        [
            (
                space.model,
                space.revision,
                space.dimensions,
                f"{space.precision}{'' if index.is_ready else ', not built'}",
                "being dropped" if space.is_dropped else "yes" if space.is_active else "no",
                vectors,
                chunks - vectors,
                output.size(index.total_bytes),
                space.id,
            )
            for space, vectors, index in found
        ],
        empty="no spaces: `greenroom db migrate` makes the first",
    )


@app.command()
def fill(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model that the settings name.")],
    halfvec: Annotated[
        bool, typer.Option("--halfvec", help="Index at half the precision, in half the memory; for a new space.")
    ] = False,
    memory: Memory = spaces.BUILD_MEMORY,
    wait: Annotated[bool, typer.Option(help="Follow it, and build the index at its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Give a model a space of its own, if it has none, and embed all there is for it; searches go on as they are.

    What comes in from now on is embedded for it, too. Again after a failure, it goes on where it was. Ends with 1 while
    a switch to it would be refused.
    """
    from console.setup import create_space
    from pipelines.documents.payloads import DOCUMENTS_QUEUE, FillSpace
    from pipelines.enqueue import enqueue

    with operate(works=wait) as operation, _owner(operation) as owner:
        found = _model_of(operation, model)
        _warn_of_shorter(owner, found)
        space_id = create_space(owner, found, "halfvec" if halfvec else None)
        task_id = enqueue(operation.connection, FillSpace(space_id=space_id), unique_key=f"space.fill:{space_id}")
        if wait:
            operation.require_worker(DOCUMENTS_QUEUE)
            follow(operation, task_id, "the space was not filled", quiet=as_json)
            _build(operation, owner, space_id, memory, quiet=as_json)
        _show(owner, space_id, task_id, as_json=as_json, waited=wait)


@app.command()
def switch(model: Name, memory: Memory = spaces.BUILD_MEMORY, as_json: AsJson = False) -> None:
    """Let searches read another model's space, from one moment to the next; back is as quick.

    Refused while it lacks anything that is shown. Builds its index first where that is missing.
    """
    from pipelines.documents.payloads import FillSpace
    from pipelines.enqueue import enqueue

    with operate() as operation, _owner(operation) as owner:
        space = spaces.named(owner, model)
        spaces.require_filled(owner, space)
        _build(operation, owner, space.id, memory, quiet=as_json)
        with owner.transaction():
            spaces.switch(owner, space)
            # Versions that are being made may lack vectors here, of tasks that failed when that mattered to nobody.
            enqueue(owner, FillSpace(space_id=space.id))
    if as_json:
        output.show_json({"space_id": space.id, "model": space.model})
    else:
        output.show_line(f"searches read the space of {space.model}")


@app.command()
def drop(
    model: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: its vectors would have to be computed anew.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop a model's space with its vectors and its index; the one that is searched stays."""
    with operate() as operation, _owner(operation) as owner:
        space = spaces.named(owner, model)
        if not yes:
            weight = output.size(spaces.index_of(owner, space.id).total_bytes)
            raise UsageError(f"this drops {weight} of vectors of {space.model}: say --yes")
        spaces.drop(owner, space)
    if as_json:
        output.show_json({"space_id": space.id, "model": space.model})
    else:
        output.show_line(f"dropped the space of {space.model}")


def _owner(operation: Operation) -> Connection:
    """Connect as the owner, past a pooler: spaces are partitions of all tenants' vectors, and locks are held."""
    if operation.place.is_pooled and operation.settings.database.direct_url is None:
        raise UsageError("models are switched past the pooler: set GREENROOM_DATABASE_DIRECT_URL")
    return connect(operation.place.owner_direct(), name="embeddings")


def _model_of(operation: Operation, name: str) -> "Model":
    from pipelines.documents.embedders import Models

    models = Models(operation.settings)
    if (found := models.named(name)) is None:
        raise UsageError(
            f"no worker would know {name!r}: name it in GREENROOM_EMBEDDING_OTHER_MODELS, for the workers, too; "
            f"now that is {', '.join(models.names)}"
        )
    return found


def _warn_of_shorter(owner: Connection, model: "Model") -> None:
    made_for = spaces.active_space(owner).max_tokens
    if model.max_tokens < made_for:
        output.note(
            f"{model.name} reads {model.max_tokens} tokens of a chunk, and chunks were made for {made_for}: of longer "
            "ones it embeds the beginning. After the switch, ingest anew to have shorter chunks"
        )


def _build(operation: Operation, owner: Connection, space_id: UUID, memory: str, *, quiet: bool) -> None:
    """Build the index, unless it is there, with a bar."""
    space = spaces.get_space(owner, space_id)
    if space is None or spaces.index_of(owner, space_id).is_ready:
        return
    failures: list[BaseException] = []

    def build() -> None:
        try:
            spaces.build_index(owner, space, memory)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=build, name="index", daemon=True)
    thread.start()
    with connect(operation.place.owner_direct(), name="progress") as looking:
        total = spaces.count_vectors(looking, space_id)
        with Stages(("indexed",), total, quiet=quiet) as stages:
            while thread.is_alive():
                if found := spaces.building(looking, space_id):
                    stages.reach("indexed", min(found[0], total))
                thread.join(_LOOK_SECONDS)
            stages.reach("indexed", total)
    if failures:
        raise failures[0]


def _show(owner: Connection, space_id: UUID, task_id: UUID, *, as_json: bool, waited: bool) -> None:
    space = spaces.get_space(owner, space_id)
    if space is None:
        raise GreenroomError("the space was dropped meanwhile")
    vectors = spaces.count_vectors(owner, space_id)
    missing = max(spaces.count_chunks(owner) - vectors, 0)
    if as_json:
        output.show_json(asdict(space) | {"task_id": task_id, "vectors": vectors, "missing": missing})
    elif not waited:
        output.show_line(f"the task {task_id} fills the space of {space.model}")
    else:
        output.show_line(f"{vectors:,} vectors of {space.model}, {missing:,} missing")
    if not waited:
        return
    if count := spaces.count_unready(owner, space):
        raise GreenroomError(
            f"{count:,} chunks that searches find have no vector of {space.model} yet: their tasks wait still, or "
            "failed (`greenroom tasks list --type chunks.embed --status failed` says why; then fill it again)"
        )
    if not space.is_active and not as_json:
        output.note(f"`greenroom embeddings switch {space.model}` lets searches read them")
