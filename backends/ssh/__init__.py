"""Any machine that is reached by ssh: its connection, its files, and the run directories on it.

Knows no provider. What rents the machine (Jarvis Labs, a cloud behind SkyPilot) is another room.
"""
