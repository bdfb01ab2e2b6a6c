"""The frameworks, each in a process of its own: they run in their own environment and import nothing of ours."""
