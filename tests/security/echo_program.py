"""What the sandbox's round-trip test runs inside."""

from __future__ import annotations


def main(given: object) -> object:
    return given
