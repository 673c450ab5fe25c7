"""Ours against the installed peers, on the same work in one process."""
