"""The journal of runs and jobs: SQLite in the user's state directory.

Written before money is spent and read by every command; many processes may use it at once.
"""

from launcher.store.records import Event, JobRecord, RunRecord, Uplink
from launcher.store.store import Store, open_store

__all__ = ["Event", "JobRecord", "RunRecord", "Store", "Uplink", "open_store"]
