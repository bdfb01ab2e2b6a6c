"""How work is run: broker, actors, relay, executor, heartbeat. The only importer of dramatiq; all state is in Postgres.

relay ──claims, publishes──▶ broker ──▶ actor ──▶ executor: take → decode → run → apply and finish (one transaction).
"""
