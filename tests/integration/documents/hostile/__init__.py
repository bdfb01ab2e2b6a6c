"""Broken and hostile files, each with the outcome that it has to have, written by hand."""
