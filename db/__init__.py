"""Everything that speaks SQL: connections, named queries, stores, row security, migrations, the embedded server.

Knows no payload type and reads no settings: addresses and values are passed in. State changes of the queue are guarded
in the WHERE of the named queries under `sql/`, and the tables' CHECKs state the machine once more.
"""
