"""Tasks of the recipes benchmark: the same rows each time, right answers, and nothing in two parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from gradients.errors import SetupError
from gradients.tasks.registry import TYPES
from scripts.benchmarks.recipes import generators, pictures, texts
from scripts.benchmarks.recipes.arms import ARMS, budget
from scripts.benchmarks.recipes.rows import LONGEST_TEXT, Pair, Sizes, divide
from scripts.benchmarks.recipes.tasks import TASKS

SIZES = Sizes(train=60, selection=20, test=40)
GENERATORS = (generators.word_problems, generators.json_extraction, generators.list_sorting, generators.kinship)

MODULE = '''
def area(width, height):
    """Return the area of a rectangle of this width and height."""
    if width < 0 or height < 0:
        raise ValueError
    return width * height


def _hidden(one):
    """Return something that nobody is to ask for by name."""
    return one
'''

LISTING = """Package: sl
Section: games
Description: Correct you if you type `sl' by mistake

Package: sl-data
Section: games
Description: data files of the program that corrects you

Package: contrib-tool
Section: contrib/net
Description-en: tool for looking at networks from the outside

Package: short
Section: net
Description: too short
"""


def of(make: Callable[[int], Iterator[Pair]], seed: int, count: int = 400) -> list[Pair]:
    return list(islice(make(seed), count))


@pytest.mark.parametrize("make", GENERATORS)
def test_the_same_seed_makes_the_same_rows_and_another_seed_others(make: Callable[[int], Iterator[Pair]]) -> None:
    assert of(make, 1) == of(make, 1)
    assert of(make, 1) != of(make, 2)


@pytest.mark.parametrize("make", GENERATORS)
def test_no_prompt_is_in_two_parts(make: Callable[[int], Iterator[Pair]]) -> None:
    parts = divide(of(make, 1), SIZES, name="made", answers_repeat=True)
    prompts = [{row.prompt for row in part} for part in parts]
    assert [len(part) for part in prompts] == list(SIZES)
    assert len(set.union(*prompts)) == SIZES.all


def test_no_answer_is_in_two_parts_where_answers_are_open() -> None:
    rows = [Pair(f"question {number}", f"Answer {number // 2}") for number in range(300)]
    parts = divide(rows, SIZES, name="open", answers_repeat=False)
    assert len({row.completion for part in parts for row in part}) == SIZES.all


def test_where_a_row_goes_does_not_depend_on_the_sources_order() -> None:
    rows = of(generators.kinship, 1)
    assert divide(rows, SIZES, name="a", answers_repeat=True) == divide(
        rows[::-1], SIZES, name="a", answers_repeat=True
    )


def test_other_rows_have_another_digest() -> None:
    parts = [divide(of(generators.kinship, seed), SIZES, name="a", answers_repeat=True) for seed in (1, 1, 2)]
    assert parts[0].digest == parts[1].digest != parts[2].digest


def test_rows_that_a_base_cannot_read_whole_are_left_out() -> None:
    rows = [*of(generators.kinship, 1), Pair("long", "x" * (LONGEST_TEXT + 1))]
    assert all(row.prompt != "long" for part in divide(rows, SIZES, name="a", answers_repeat=True) for row in part)


def test_a_source_with_too_few_rows_is_named() -> None:
    with pytest.raises(SetupError, match="The task small has 30 rows, and 120 are asked for"):
        divide(of(generators.kinship, 1, 30), SIZES, name="small", answers_repeat=True)


def test_the_answers_of_word_problems_are_right() -> None:
    for row in of(generators.word_problems, 3):
        sums = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)", row.completion)
        assert len(sums) == 2
        for left, sign, right, result in sums:
            right_answer = {
                "+": int(left) + int(right),
                "-": int(left) - int(right),
                "*": int(left) * int(right),
            }
            assert right_answer[sign] == int(result) > 0


def test_extracted_facts_all_stand_in_the_sentence() -> None:
    for row in of(generators.json_extraction, 3):
        facts = json.loads(row.completion)
        assert list(facts) == ["name", "item", "count", "city", "price"]
        assert all(str(value) in row.prompt for value in facts.values())


def test_sorted_lists_are_sorted_and_whole() -> None:
    for row in of(generators.list_sorting, 3):
        asked, said = row.prompt.split(": ")[1].split(", "), row.completion.split(", ")
        assert sorted(asked) == sorted(said)
        assert said == (sorted(said) if asked[0].isalpha() else sorted(said, key=int, reverse=True))


def test_docstrings_are_those_of_public_functions(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(MODULE, encoding="utf-8")
    assert list(texts.docstrings(tmp_path)) == [
        Pair(
            "What does area(width, height) of shapes do?",
            "Return the area of a rectangle of this width and height.",
        )
    ]


def test_a_functions_body_is_asked_for_by_its_head_and_docstring(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(MODULE, encoding="utf-8")
    (row,) = texts.function_bodies(tmp_path)
    assert row.prompt.startswith("Complete this function of shapes:\ndef area(width, height):\n")
    assert row.completion == "if width < 0 or height < 0:\n    raise ValueError\nreturn width * height"


def test_one_package_of_a_family_counts() -> None:
    assert [tuple(package) for package in texts.read_packages(LISTING)] == [
        ("contrib-tool", "net", "tool for looking at networks from the outside"),
        ("sl", "games", "Correct you if you type `sl' by mistake"),
    ]


def test_pictures_are_captioned_by_their_names_and_none_looks_like_another(tmp_path: Path) -> None:
    halves = Image.new("RGB", (32, 32), "white")
    halves.paste("black", (0, 0, 16, 32))
    images = {"go-left": halves, "go-right": ImageOps.mirror(halves), "red-apple": Image.new("RGB", (32, 32), "red")}
    files = [tmp_path / f"{name}.png" for name in images]
    for file, image in zip(files, images.values(), strict=True):
        image.save(file)
    first, second = pictures.captioned(files)
    assert (first.prompt, second.prompt) == ("go left", "red apple")
    assert first.texts != second.texts
    assert set(first.as_row()) == {"image", "caption"}


def test_what_arms_train_pictures_by_is_as_long_as_what_they_train_texts_by() -> None:
    drawing = [arm for arm in ARMS.values() if arm.pictures is not None]
    assert {"autotrain", "community", "lora-tuned", "lora-plus", "full-tuned", "planner"} <= {
        arm.name for arm in drawing
    }
    for arm in drawing:
        assert budget(arm.way(of_pictures=True)) == budget(arm.way(of_pictures=False))
    assert ARMS["base"].trains(of_pictures=True)
    assert not ARMS["trl"].trains(of_pictures=True)


def test_there_are_twelve_tasks_and_prose_is_a_family_of_its_own() -> None:
    assert len(TASKS) >= 12
    assert sum(task.family == "prose" for task in TASKS.values()) >= 3
    assert {task.kind for task in TASKS.values()} <= set(TYPES)
