"""How well searches find: known items of a manual's own index, by each strategy and by what was not chosen."""
