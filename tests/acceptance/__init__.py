"""The acceptance suite: what an operator and a producer are promised, by real commands, in each set-up of a database.

`direct` reaches Postgres itself; `pooled` goes through PgBouncer in transaction mode, with a direct address for LISTEN;
`deaf` goes through PgBouncer alone, where nothing is ever heard and polling does all the work.
"""
