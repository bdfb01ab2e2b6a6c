"""What operators use: the `greenroom` command. Nothing imports this package.

    main ─▶ commands/<group> ─▶ runtime (settings, addresses, the embedded server) ─▶ db.* read models and actions
                             ├▶ engine (relay and worker in this process) ─▶ workers
                             ├▶ supervisor ─▶ child (engine, relay or worker; beside a relay a scheduler)
                             └▶ checks (what `doctor` looks at)

`main` turns errors into exit statuses, `runtime` is the composition root, `output` is the only module that prints.
Commands import what they need when they run: most need neither a model nor a broker, and a relay must stay small.
"""
