"""SkyPilot for real, on one machine: its API server, and clusters of Debian's Slurm.

Nothing here stands in for a part of SkyPilot. The unmodified client talks to the unmodified API
server, whose optimizer, provisioner and skylet run jobs on a real slurmctld and real slurmds that
are reached through a real sshd; all of it listens on loopback, in a mount namespace of its own, so
that it has a HOME, a passwd and a hosts file of its own. `rig.Sky` starts and ends it.
"""
