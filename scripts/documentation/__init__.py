"""The documentation site: what is gathered from the repository, and what is written from the code."""
