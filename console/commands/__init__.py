"""The commands, one module a group; each is a thin way from options to a call and from its answer to `output`."""
