"""Rows that are made up by rule, without end: the same seed makes the same rows in the same order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from scripts.benchmarks.recipes.rows import Pair

_PEOPLE = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gwen",
    "Hugo",
    "Iris",
    "Jon",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Olga",
)
_THINGS = ("apples", "books", "coins", "shells", "stamps", "pencils", "marbles", "tickets", "buttons", "cards")
_CITIES = ("Lisbon", "Oslo", "Vienna", "Kyoto", "Lima", "Cairo", "Dublin", "Riga", "Quito", "Hanoi")
_GOODS = ("lamp", "chair", "kettle", "radio", "mirror", "carpet", "clock", "shelf", "fan", "desk")
_WORDS = (*_THINGS, *_GOODS)
_STEPS = ("parent", "sibling")


def word_problems(seed: int) -> Iterator[Pair]:
    """Two steps of arithmetic in words; the answer shows both."""
    draw = random.Random(f"words {seed}")
    while True:
        who, other = draw.sample(_PEOPLE, 2)
        thing = draw.choice(_THINGS)
        first, more, each = draw.randint(2, 60), draw.randint(2, 40), draw.randint(2, 9)
        if draw.random() < 0.5:
            total = first + more
            given = draw.randint(1, total - 1)
            yield Pair(
                f"{who} has {first} {thing} and finds {more} more. Then {who} gives {given} to {other}. How many are left?",
                f"{first} + {more} = {total}. {total} - {given} = {total - given}. {who} has {total - given} {thing} left.",
            )
        else:
            bought = first * each
            yield Pair(
                f"{who} buys {first} boxes with {each} {thing} in each, and {other} brings {more} more. How many are there?",
                f"{first} * {each} = {bought}. {bought} + {more} = {bought + more}. There are {bought + more} {thing}.",
            )


def json_extraction(seed: int) -> Iterator[Pair]:
    """A sentence about an order, and its facts as JSON."""
    draw = random.Random(f"json {seed}")
    while True:
        facts = {
            "name": draw.choice(_PEOPLE),
            "item": draw.choice(_GOODS),
            "count": draw.randint(1, 99),
            "city": draw.choice(_CITIES),
            "price": round(draw.uniform(2, 400), 2),
        }
        form = draw.choice(
            (
                "{name} from {city} ordered {count} of the {item} at {price} each.",
                "At {price} apiece, {count} times the {item} go to {name} in {city}.",
                "Please send the {item} ({count} pieces, {price} each) to {city}; the customer is {name}.",
            )
        )
        yield Pair("Extract the order as JSON. " + form.format(**facts), json.dumps(facts))


def list_sorting(seed: int) -> Iterator[Pair]:
    """Words in alphabetical order, or numbers in falling order."""
    draw = random.Random(f"sort {seed}")
    while True:
        if draw.random() < 0.5:
            words = draw.sample(_WORDS, draw.randint(3, 6))
            yield Pair(f"Sort these words: {', '.join(words)}", ", ".join(sorted(words)))
        else:
            numbers = draw.sample(range(100), draw.randint(3, 6))
            falling = sorted(numbers, reverse=True)
            yield Pair(
                f"Sort these numbers, largest first: {', '.join(map(str, numbers))}", ", ".join(map(str, falling))
            )


def kinship(seed: int) -> Iterator[Pair]:
    """Two facts about three people, and what follows for the first and the third."""
    draw = random.Random(f"kin {seed}")
    follows = {
        ("parent", "parent"): "grandparent",
        ("parent", "sibling"): "parent",
        ("sibling", "parent"): "aunt or uncle",
        ("sibling", "sibling"): "sibling",
    }
    while True:
        one, two, three = draw.sample(_PEOPLE, 3)
        first, second = draw.choice(_STEPS), draw.choice(_STEPS)
        facts = [f"{one} is a {first} of {two}.", f"{two} is a {second} of {three}."]
        draw.shuffle(facts)
        yield Pair(
            f"{' '.join(facts)} What is {one} to {three}?",
            f"{one} is a {first} of {two}, who is a {second} of {three}: {one} is {three}'s {follows[first, second]}.",
        )
