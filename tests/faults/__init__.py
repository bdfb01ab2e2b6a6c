"""Fault tests: real processes, killed, frozen and cut off, over a durable server and both brokers.

`rig` runs the processes, `storm` does them harm by a plan, `checks` says what is wrong afterwards. The short form runs
always, the long one by `make faults`; FAULTS_SEED repeats a run.
"""
