"""When work recurs: schedules, their triggers, their fires, and what to do about fires that were missed.

This package turns a schedule's due time into exactly one task: a fire is a unique row (schedule, fire time), written in
the transaction that enqueues its task, on Postgres' clock. Any number of schedulers may therefore run, restart and see
clocks step (invariant I4). Catch-up goes on from where the database says that times are settled, and follows the
schedule's own rule for missed ones: skip, once, or all up to a bound.

`cron`, `zones` and `triggers` say when, and know no database; `firing` settles the times of one schedule; `service` and
`processes` wake it. The package stands on `pipelines` (`enqueue`) and `db` (the named SQL), does not see its sibling
`workers`, and never runs a handler.
"""
