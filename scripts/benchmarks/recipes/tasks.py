"""The tasks, by family."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from scripts.benchmarks.recipes import generators, pictures, texts
from scripts.benchmarks.recipes.rows import Parts, Row, Sizes, divide

DATA_SEED = 2026  # of what is generated; the runs' own seeds choose no rows
MADE_ROWS = 4_000  # of a task without an end
PICTURE_ROWS = Sizes(40, 20, 60)  # at most: tasks of pictures have 10 to 50 to train on


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learnt."""

    name: str
    family: str
    source: Callable[[], Iterable[Row]]
    answers_repeat: bool = False
    kind: str = "instruct"  # the task type that it is trained as
    most: Sizes | None = None  # rows, where a task of the type has few

    @property
    def of_pictures(self) -> bool:
        """Whether its base draws; others write."""
        return self.kind == "diffusion"

    @property
    def base(self) -> str:
        """The shipped base that learns it, where no other is named."""
        return "nano-image" if self.of_pictures else "nano-lm"

    def parts(self, sizes: Sizes) -> Parts:
        """Its rows. Raises SetupError or OutsideError where the source is not there."""
        fitting = Sizes(*map(min, sizes, self.most or sizes))
        return divide(self.source(), fitting, name=self.name, answers_repeat=self.answers_repeat)


def _made(name: str, family: str, make: Callable[[int], Iterable[Row]]) -> Task:
    return Task(name, family, lambda: islice(make(DATA_SEED), MADE_ROWS), answers_repeat=True)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("translation-es", "translation", partial(texts.translation, "es")),
        Task("translation-lt", "translation", partial(texts.translation, "lt")),
        _made("word-problems", "maths", generators.word_problems),
        _made("json-extraction", "extraction", generators.json_extraction),
        Task("package-sections", "classification", texts.package_sections, answers_repeat=True),
        _made("list-sorting", "reasoning", generators.list_sorting),
        _made("kinship", "reasoning", generators.kinship),
        Task("function-bodies", "code", partial(texts.function_bodies, texts.STANDARD_LIBRARY)),
        Task("package-questions", "RAG", texts.package_questions, answers_repeat=True),
        Task("docstrings", "prose", partial(texts.docstrings, texts.STANDARD_LIBRARY)),
        Task("django-docstrings", "prose", lambda: texts.docstrings(texts.django() / "django")),
        Task("package-summaries", "prose", texts.package_summaries),
        Task("spanish-not-portuguese", "preferences", texts.spanish_not_portuguese, kind="dpo"),
        Task("tango-icons", "pictures", pictures.icons, kind="diffusion", most=PICTURE_ROWS),
    )
}
