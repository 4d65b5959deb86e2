"""SCALE's variable-length integers, and a reader over bytes."""

from __future__ import annotations

from dataclasses import dataclass


def encode_compact(value: int) -> bytes:
    """`value` in as few bytes as SCALE's compact form allows."""
    if value < 1 << 6:
        return bytes([value << 2])
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    width = (value.bit_length() + 7) // 8
    return bytes([(width - 4) << 2 | 3]) + value.to_bytes(width, "little")


@dataclass(slots=True)
class Reader:
    """A position in bytes. Raises ValueError when they end before what was asked for."""

    data: bytes
    position: int = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.position}, {len(self.data) - self.position} left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def compact(self) -> int:
        """The next compact integer."""
        first = self.take(1)[0]
        if first & 3 == 3:
            return int.from_bytes(self.take((first >> 2) + 4), "little")
        rest = self.take((0, 1, 3)[first & 3])
        return int.from_bytes(bytes([first]) + rest, "little") >> 2

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self.data) - self.position)

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""
        return self.position == len(self.data)
