"""Scenarios: each does one kind of harm to a fleet at work, for a while, and mends it.

A scenario is a function of the fleet, a seeded generator and for how many seconds; it returns how often it hit. What
must hold afterwards is the same for all of them (`checks`). The short form runs each that is cheap; the soak draws from
all.
"""
