"""Make a database ready for work: schema, roles, task types, schedules, the model's space; and a folder for files."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from core.errors import ScheduleError
from core.settings import Settings
from db import identity, schedules, spaces
from db.connection import Connection, connect
from db.migrate import SchemaStatus, migrate
from db.schema import current_revision, require_revision
from pipelines.documents.embedders import Model, Models
from pipelines.publish import publish_types
from pipelines.registry import load_registry, load_schedules
from pipelines.vault.cipher import Cipher
from scheduler.firing import trigger_spec
from scheduler.triggers import build_trigger

if TYPE_CHECKING:
    from db.seed import Seeded


def prepare(owner_url: str, settings: Settings) -> SchemaStatus:
    """Bring a database to where this program can work with it, as its owner. Safe to repeat, and quick then.

    Touches no file: whoever migrates need not have the storage.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its plug-ins are no operator's news
    passwords = {kind: secret.get_secret_value() for kind, secret in settings.role_passwords.items()}
    status = migrate(owner_url, passwords=passwords)
    registry = load_registry(settings.task_modules)
    with connect(owner_url, name="setup") as connection:
        publish_types(connection, registry)
        install_schedules(connection, settings)
        if not spaces.spaces(connection):  # another model's is `greenroom embeddings fill`'s to make
            create_space(connection, Models(settings).all()[0])
    return status


def install_schedules(connection: Connection, settings: Settings) -> schedules.Installed:
    """Make the schedules what the task modules declare, as the owner; an operator's way with one is kept.

    Raises RegistrationError or ScheduleError, and changes nothing, where one of them cannot be.
    """
    declared = load_schedules(settings.task_modules)
    listed = [each.declaration(module) for module, found in declared.items() for each in found]
    for each in listed:
        try:
            build_trigger(trigger_spec(each.spec, datetime.now(UTC)))
        except ScheduleError as error:
            raise ScheduleError(f"schedule {each.spec.name!r} of {each.module}: {error}") from error
    return schedules.install(connection, listed, list(declared))


def create_space(connection: Connection, model: Model, precision: spaces.Precision | None = None) -> UUID:
    """Make the space of a model if it is missing, as the owner; return its id."""
    return spaces.create_space(
        connection,
        model=model.name,
        revision=model.revision,
        dimensions=model.dimensions,
        max_tokens=model.max_tokens,
        precision=precision,
    )


def seed_rows(owner_url: str, settings: Settings) -> "Seeded":
    """Write development data, as the owner; API keys only where a key of the ring hashes them."""
    from db.seed import seed

    keys = [key.get_secret_value() for key in settings.encryption.keys]
    with connect(owner_url, name="setup") as connection:
        require_revision(current_revision(connection))
        return seed(connection, Cipher(keys).peppers[0] if keys else None)


def create_folder(owner_url: str, settings: Settings) -> None:
    """Make the tenant's folder in a local storage, where producers put files that a path in a payload names."""
    if settings.storage.url is not None:
        return  # elsewhere a folder is there when something is in it
    with connect(owner_url, name="setup") as connection:
        tenant_id = identity.tenant_id_of(connection, settings.tenant)
    (settings.storage_root / str(tenant_id)).mkdir(mode=0o700, parents=True, exist_ok=True)
