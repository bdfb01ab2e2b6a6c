"""Where a tenant's policies hold: through the public name, and on the relations behind it."""

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, one, outcome
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout


def measure_security(bench: Bench) -> Json:
    """Who sees what under FORCE ROW LEVEL SECURITY, in a transaction that is rolled back."""
    result: Json = {}
    for name in bench.distinct:
        layout = LAYOUTS[name]
        steps = ["policies", "policies_on_live"] if layout.file == "a.sql" else ["policies"]
        for last in range(1, len(steps) + 1):
            with bench.connect(layout.schema(full=False)) as conn:
                result[f"{name} {' + '.join(steps[:last])}"] = _seen_by_tenant(conn, layout, steps[:last])
    return result


def _seen_by_tenant(conn: Connection, layout: Layout, steps: list[str]) -> Json:
    """Load another tenant's tasks, become a tenant, look and insert."""
    schema = sql.Identifier(one(conn, "SELECT current_schema()"))
    with conn.transaction(force_rollback=True):
        for step in steps:
            conn.execute(layout.statement(step))
        conn.execute(layout.statement("load"), {"tasks": 3})
        conn.execute(b"CREATE ROLE layout_tenant")
        for target in (sql.SQL("USAGE ON SCHEMA {}"), sql.SQL("ALL ON ALL TABLES IN SCHEMA {}")):
            conn.execute(sql.SQL("GRANT ") + target.format(schema) + sql.SQL(" TO layout_tenant"))
        conn.execute(b"SET LOCAL ROLE layout_tenant")
        conn.execute(b"SELECT set_config('app.current_tenant_id', gen_random_uuid()::text, true)")
        relations = dict.fromkeys(["outbox_tasks", layout.live, layout.history])
        seen: Json = {relation: _visible(conn, relation) for relation in relations}
        insert = sql.SQL("INSERT INTO outbox_tasks (task_type) VALUES ('x')").format()
        seen["insert for another tenant"] = outcome(conn, insert)
    return seen


def _visible(conn: Connection, relation: str) -> str:
    return outcome(conn, sql.SQL("SELECT id FROM {}").format(sql.Identifier(relation)))
