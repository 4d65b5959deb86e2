"""Recomputes what a validator has published, from its record and the chain alone."""
