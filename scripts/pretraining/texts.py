"""One reader per source: what is kept of it, and which share of it is put in the chat format. No prompt asks for a definition."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from scripts.pretraining.chat import exchange
from scripts.pretraining.prose import read_prose
from scripts.pretraining.sources import run_program
from scripts.pretraining.wordnet import Synset

SYSTEM = "You are a small language model."
CHUNK_CHARACTERS = 1400
FORTUNE_TOPICS = {
    "fortunes": (
        *(
            "art",
            "computers",
            "cookie",
            "education",
            "food",
            "humorists",
            "kids",
            "law",
            "linuxcookie",
            "love",
            "magic",
        ),
        *("medicine", "miscellaneous", "news", "paradoxum", "people", "pets", "platitudes", "politics", "science"),
        *("sports", "tao", "wisdom", "work"),
    ),
    "fortunes-min": ("fortunes", "literature", "riddles"),
}
_TOPIC_NAMES = {"cookie": "life", "linuxcookie": "Linux", "fortunes": "anything", "miscellaneous": "anything"}
_EXAMPLE_REQUESTS = ("Use the word {} in a sentence.", "Give an example with the word {}.")
_FORTUNE_REQUESTS = ("Tell me something about {}.", "Give me a quote about {}.", "A fortune about {}, please.")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_PAGES_WITHOUT_PROSE = re.compile(r"genindex|whatsnew|changelog|search|modindex|contents")


class Document(NamedTuple):
    """One text of the corpus and the source that it came from."""

    source: str
    text: str


def wordnet_documents(synsets: Iterable[Synset], rng: random.Random) -> Iterator[Document]:
    """Glosses as a dictionary prints them, and example sentences as answers to a request for one.

    Names of persons, places and species are left out: to a model of this size they are noise.
    """
    for synset in synsets:
        if synset.words[0][0].isupper():
            continue
        examples = "".join(f' "{example}"' for example in synset.examples)
        gloss = f"{', '.join(synset.words)} ({synset.pos}): {synset.definition}.{examples}"
        yield Document("wordnet", gloss)
        if synset.examples and rng.random() < 0.25:
            request = rng.choice(_EXAMPLE_REQUESTS).format(synset.words[0])
            yield Document("wordnet", exchange(request, rng.choice(synset.examples) + "."))


def python_documents(html: Path, rng: random.Random) -> Iterator[Document]:
    """The prose of Python's documentation by page, and single sections as explanations."""
    seen: set[str] = set()
    for page in sorted(html.rglob("*.html")):
        if _PAGES_WITHOUT_PROSE.search(str(page.relative_to(html))):
            continue
        blocks = [block for block in read_prose(page) if block.is_heading or block.text not in seen]
        seen.update(block.text for block in blocks)
        yield from (Document("python-doc", text) for text in chunks([block.text for block in blocks], joint="\n"))
        for heading, first in pairwise(blocks):
            if heading.is_heading and not first.is_heading and rng.random() < 0.5:
                yield Document("python-doc", exchange(f"Explain this Python topic: {heading.text}", first.text))


def speech_documents(folder: Path, rng: random.Random) -> Iterator[Document]:
    """State of the Union speeches in pieces; the opening of each as an answer, and some pieces as continuations."""
    for path in sorted(folder.glob("*.json")):
        speech = json.loads(path.read_text(encoding="utf-8"))
        pieces = chunks(_SENTENCE_END.split(" ".join(speech["text"].split())), joint=" ")
        request = f"Open a State of the Union speech as {speech['name']} in {speech['year']}."
        yield Document("state-of-the-union", exchange(request, pieces[0], system=SYSTEM))
        yield from (_maybe_continuation("state-of-the-union", piece, rng) for piece in pieces)


def novel_documents(folder: Path, rng: random.Random) -> Iterator[Document]:
    """Moby Dick in pieces, some as continuations."""
    for path in sorted(folder.glob("chapter_*.json")):
        paragraphs = json.loads(path.read_text(encoding="utf-8"))["text"].split("\n\n")
        lines = [line for paragraph in paragraphs if (line := " ".join(paragraph.split()))]
        yield from (_maybe_continuation("moby-dick", piece, rng) for piece in chunks(lines, joint="\n"))


def bible_documents(*, program: Path, text: Path, rng: random.Random) -> Iterator[Document]:
    """The King James Bible by chapter, and a verse of each as the answer to a request for one.

    The text is stored compressed; the package's own `program` prints it.
    """
    command = [str(program.resolve()), "-p", f"{text.resolve()}/", "-l9999", "Gen1:1-Rev22:21"]
    printed = run_program(command, folder=text, encoding="latin-1")
    for block in re.split(r"\n(?=\S)", printed):
        lines = [re.sub(r"^\d+ ", "", line.strip()) for line in block.splitlines() if line.strip()]
        if len(lines) < 2:
            continue
        yield from (Document("bible", piece) for piece in chunks(lines, joint="\n"))
        chapter, *verses = lines
        yield Document("bible", exchange(f"Quote a verse from {chapter}.", rng.choice(verses)))


def fortune_documents(folder: Path, topics: Iterable[str], rng: random.Random) -> Iterator[Document]:
    """Fortunes by topic, two of three as answers to a request for one."""
    for topic in topics:
        printed = (folder / topic).read_text(encoding="utf-8", errors="ignore")
        for fortune in printed.split("\n%\n"):
            text = re.sub(r"[ \t]+", " ", fortune).strip()
            if not text or len(text) > CHUNK_CHARACTERS or _CONTROL.search(text):
                continue
            request = rng.choice(_FORTUNE_REQUESTS).format(_TOPIC_NAMES.get(topic, topic))
            yield Document("fortunes", text if rng.random() < 1 / 3 else exchange(request, text))


def _maybe_continuation(source: str, piece: str, rng: random.Random) -> Document:
    sentences = _SENTENCE_END.split(piece, maxsplit=1)
    if len(sentences) == 1 or rng.random() > 0.15:
        return Document(source, piece)
    return Document(source, exchange(f"Continue: {sentences[0]}", sentences[1]))


def chunks(units: Iterable[str], *, joint: str) -> list[str]:
    """Paragraphs or sentences put together to pieces of about CHUNK_CHARACTERS."""
    pieces: list[str] = []
    piece = ""
    for unit in units:
        if piece and len(piece) + len(unit) > CHUNK_CHARACTERS:
            pieces.append(piece)
            piece = ""
        piece = f"{piece}{joint}{unit}" if piece else unit
    return [*pieces, piece] if piece else pieces
