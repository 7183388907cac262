"""The fault run of the SkyPilot backend: what may go wrong where, and a run that meets it.

`way` lies between the client and its API server, `cases` says what is tried, `client` is the
process of ours that meets it, `journey` takes a run through one case and says what is left.
"""
