"""Answers of the runtime APIs, computed from the state at a block."""
