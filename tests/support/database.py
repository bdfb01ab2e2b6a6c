"""Databases of the suite: the kit's (workers/testing/database.py), which users' suites have too."""

from workers.testing.database import Database, cloned, fast_server, migrate_template

__all__ = ["Database", "cloned", "fast_server", "migrate_template"]
