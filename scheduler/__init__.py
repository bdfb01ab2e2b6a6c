"""When work recurs: schedules, their triggers, their fires, and what to do about fires that were missed.

    processes ─▶ service (wakes: a timer in memory, and a poll) ─▶ firing (settles one schedule) ─▶ db.fires, enqueue
    preview (what is to come, for people) ─▶ triggers (spec ─▶ UTC instants) ◀─ firing
                                             triggers ─▶ cron (wall times), zones (wall time ─▶ UTC)

A fire is a row whose key (schedule, time in UTC) is unique, written in the transaction that enqueues its task, on
Postgres' clock. Any number of schedulers may therefore run, restart and see clocks step (invariant I4). Each look goes
on from where the row says that times are settled, and follows the schedule's own rules for missed and overlapping ones.

`cron`, `zones`, `triggers` and `preview` say when, and know no database. A scheduler loads no task module and runs no
handler: of `pipelines` it uses `enqueue`, of `db` the stores of schedules and fires; its sibling `workers` it does not
see. APScheduler and cronsim are imported nowhere else.
"""
