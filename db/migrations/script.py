"""How a migration runs its SQL file."""

from importlib import resources

from alembic import op


def run_sql(file: str) -> None:
    """Run a file of `db/migrations/sql` as it stands, in the migration's transaction."""
    source = resources.files("db.migrations").joinpath("sql", file).read_text(encoding="utf-8")
    driver = op.get_bind().connection.driver_connection
    if driver is None:
        raise RuntimeError("migrations need a live connection")
    # The simple protocol: a file holds many statements and no parameters.
    driver.execute(source.encode())
