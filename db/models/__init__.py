"""The data model as SQLAlchemy sees it: a module a bounded context, named as its Postgres schema.

Migrations are the truth; tests/integration/test_models.py has autogenerate find no difference. Row security, triggers,
grants and partitions stand in the migrations alone.
"""

from db.models import (
    assistants,
    audit,
    billing,
    governance,
    identity,
    knowledge,
    mail,
    ops,
    people,
    queue,
    tools,
    vault,
)
from db.models.base import Base

__all__ = (
    "Base",
    "assistants",
    "audit",
    "billing",
    "governance",
    "identity",
    "knowledge",
    "mail",
    "ops",
    "people",
    "queue",
    "tools",
    "vault",
)
