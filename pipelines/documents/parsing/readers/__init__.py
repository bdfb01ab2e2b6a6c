"""One module a family of formats, each with a function `read(source) -> Reading`; imported when first needed.

They run in the parser's process, within its limits. What a reader raises on a file that is not what it claims to be is
made a BrokenFileError by the process; a reader raises an error of its own where it can say more.
"""
