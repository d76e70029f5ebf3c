"""Faults planted on purpose: at the wire before a real server, or in the server's own process."""
