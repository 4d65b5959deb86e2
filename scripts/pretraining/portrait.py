"""One drawn character in many situations: the same face, hair and freckles, with another look, shirt, wall and hat each time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

NAME = "Ada"
_SHIRTS = {"green": "#2e8b57", "red": "#c0392b", "blue": "#2c5fa8", "white": "#f4f4f0", "black": "#2b2b2b"}
_WALLS = {"yellow": "#f5d76e", "grey": "#b8bec4", "pink": "#f3b6c4", "teal": "#74c7c1"}
_ON_HER_HEAD = {
    "": "",
    "hat": '<ellipse cx="50" cy="27" rx="38" ry="7" fill="#d9b44a"/><path d="M30 27Q50 0 70 27Z" fill="#e6c766"/>',
    "blue cap": '<path d="M27 30Q50 4 73 30Z" fill="#27507a"/><rect x="60" y="26" width="28" height="5" rx="2" fill="#1d3d5e"/>',
}
_LOOKS = {
    "smiling": '<path d="M41 58Q50 67 59 58" stroke="#7a2e2e" stroke-width="3" fill="none"/>',
    "grinning": '<path d="M40 56Q50 74 60 56Z" fill="#7a2e2e"/>',
    "open mouth": '<ellipse cx="50" cy="62" rx="5" ry="7" fill="#7a2e2e"/>',
    "frowning": '<path d="M41 64Q50 55 59 64" stroke="#7a2e2e" stroke-width="3" fill="none"/>',
}


@dataclass(frozen=True, slots=True)
class Portrait:
    """One picture of her."""

    caption: str
    svg: str


def portraits(count: int, *, seed: int) -> list[Portrait]:
    """Pictures of which no two share shirt, wall and hat; framed a little differently each time."""
    rng = random.Random(seed)
    scenes = list(product(_SHIRTS, _WALLS, _ON_HER_HEAD))
    rng.shuffle(scenes)
    return [_portrait(*scene, look=rng.choice(list(_LOOKS)), rng=rng) for scene in scenes[:count]]


def _portrait(shirt: str, wall: str, hat: str, *, look: str, rng: random.Random) -> Portrait:
    words = (NAME, look, hat, f"{shirt} top", f"on {wall}")  # few and plain: the shipped text encoder reads 16 tokens
    frame = f"translate({rng.uniform(-8, 8):.1f} {rng.uniform(-4, 6):.1f}) scale({rng.uniform(0.95, 1.1):.2f})"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'
        f'<rect width="100" height="100" fill="{_WALLS[wall]}"/><g transform="{frame}">'
        f'<path d="M12 104Q16 76 50 76Q84 76 88 104Z" fill="{_SHIRTS[shirt]}"/>'
        '<path d="M24 84Q20 16 50 16Q80 16 76 84Z" fill="#a8431f"/>'  # hair
        '<rect x="43" y="66" width="14" height="14" fill="#e0a98a"/>'
        '<ellipse cx="50" cy="48" rx="21" ry="25" fill="#f0c2a2"/>'
        '<path d="M29 42Q34 20 50 22Q66 20 71 42Q60 30 50 31Q40 30 29 42Z" fill="#a8431f"/>'
        '<circle cx="41" cy="46" r="3.4" fill="#2f5d3a"/><circle cx="59" cy="46" r="3.4" fill="#2f5d3a"/>'
        '<g fill="#c98a68"><circle cx="36" cy="54" r="1.3"/><circle cx="39" cy="56" r="1.3"/>'
        '<circle cx="61" cy="56" r="1.3"/><circle cx="64" cy="54" r="1.3"/></g>'
        f"{_LOOKS[look]}{_ON_HER_HEAD[hat]}</g></svg>"
    )
    return Portrait(" ".join(word for word in words if word), svg)
