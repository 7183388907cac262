"""The fault run of the Jarvis Labs backend: what may go wrong where, and a run that meets it.

`cases` says what is tried, `journeys` takes a run through one case, `client` is the process of
ours that meets it (with `hooks` in it), `outcome` what is left at the end, `report` the table.
"""
