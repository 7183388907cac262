"""This machine as a place where jobs run: the embedded default, and the yardstick for the others.

A job is a folder under the state directory and a runner process that outlives its launcher:

runs/NAME/      the run directory, with `lease.json` beside the runner's own files
caches/KEY/     content-addressed folders that many jobs share, reached by a link
locks/NAME      held while a job is laid out, ended or removed
trash/          what is being removed

Nothing bills here. A lease is found from any process of this machine, and from no other machine.
"""

from backends.local.backend import Local, factory

__all__ = ["Local", "factory"]
