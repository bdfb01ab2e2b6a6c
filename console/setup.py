"""Make a database ready for work: schema, roles, task types, the embedding model's space; and a folder for files."""

import logging

from core.settings import Settings
from db import documents, identity
from db.connection import connect
from db.migrate import SchemaStatus, migrate
from pipelines.documents.models import find_model
from pipelines.publish import publish_types
from pipelines.registry import load_registry


def prepare(owner_url: str, settings: Settings) -> SchemaStatus:
    """Bring a database to where this program can work with it, as its owner. Safe to repeat, and quick then.

    Touches no file: whoever migrates need not have the storage.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its plug-ins are no operator's news
    passwords = {kind: secret.get_secret_value() for kind, secret in settings.role_passwords.items()}
    status = migrate(owner_url, passwords=passwords)
    registry = load_registry(settings.task_modules)
    model = find_model(settings.embedding.model)
    with connect(owner_url, name="setup") as connection:
        publish_types(connection, registry)
        documents.create_space(
            connection,
            model=model.name,
            revision=model.revision,
            dimensions=model.dimensions,
            max_tokens=model.max_tokens,
        )
    return status


def create_folder(owner_url: str, settings: Settings) -> None:
    """Make the tenant's folder in the storage, where producers put files that a path in a payload names."""
    with connect(owner_url, name="setup") as connection:
        tenant_id = identity.tenant_id_of(connection, settings.tenant)
    (settings.storage_root / str(tenant_id)).mkdir(mode=0o700, parents=True, exist_ok=True)
