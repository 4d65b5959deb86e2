"""Words of strangers, made harmless where they come in: for terminals, logs, databases and pages alike.

Covers: control characters and terminal escapes, NUL, halves of characters, marks that turn the direction of writing around, invisible
characters, and length. Does not cover: what the words mean, nor the markup of whatever shows them, which must take them as plain text.
"""

from __future__ import annotations

import re

MOST_CHARACTERS = 2_000
# Everything of Unicode's categories Cc, Cs and Cf but the joiners that scripts and emoji need, the two separators of lines, and tags.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\uffff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f]"
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def harmless(text: str, *, most: int = MOST_CHARACTERS, lines: bool = False) -> str:
    """`text` with every harmful character spelt out, as in \\x1b, and at most `most` characters long; its middle gives way.

    Args:
        lines: whether line breaks and tabs may stay.
    """

    def spelt(part: str) -> str:
        return _HARMFUL.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _spelt(found), part)

    if len(text) <= most and len(shown := spelt(text)) <= most:
        return shown
    left_out = f" … ({len(text):,} characters) … "
    ends = max(most - len(left_out), 0)
    head, tail = spelt(text[:ends])[: ends - ends // 3], spelt(text[-ends:]) if ends else ""
    return f"{head}{left_out}{tail[len(tail) - ends // 3 :]}"[:most]


def storable(text: str) -> str:
    """`text` with what no database takes spelt out: NUL and halves of characters."""
    return _UNSTORABLE.sub(_spelt, text)


def _spelt(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
