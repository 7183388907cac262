"""A loopback Jarvis Labs: its REST interface, and a real machine for each instance."""
