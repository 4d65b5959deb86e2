"""The commands of `scripts/pretrain`: prepare the texts, train, export; each goes on from what the one before left."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from gradients.files.whole import write_text
from scripts.pretraining.card import model_card
from scripts.pretraining.chat import END_OF_TEXT
from scripts.pretraining.checkpoint import load_checkpoint
from scripts.pretraining.corpus import build_corpus, encode, split_documents
from scripts.pretraining.dialogues import dialogue_rows
from scripts.pretraining.holdout import choose_hold_out, hold_out_test
from scripts.pretraining.model import Shape, build_model, export_model, samples
from scripts.pretraining.record import training_record
from scripts.pretraining.rows import definition_rows, passage_rows, preference_rows, question_rows, write_rows
from scripts.pretraining.sources import DIALOGUES, fetch, fetch_one
from scripts.pretraining.texts import Document
from scripts.pretraining.tokenizer import train_tokenizer
from scripts.pretraining.training import Budget, Corpus, Recipe, held_out_loss, measured_context, train
from scripts.pretraining.wordnet import read_synsets

ROOT = Path(__file__).parents[2]
MODEL = "models/nano-lm"
HELD_OUT_CHARACTERS = 52_000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    command: str
    work: Path
    assets: Path
    held_out: Path
    texts: Path | None
    minutes: float
    steps: int
    checkpoint_minutes: float
    vocabulary: int
    hidden: int
    layers: int
    context: int
    batch: int
    seed: int
    held_out_one_in: int
    machine: str

    @property
    def shape(self) -> Shape:
        return Shape(hidden=self.hidden, layers=self.layers, context=self.context)

    @property
    def recipe(self) -> Recipe:
        return Recipe(seed=self.seed, batch=self.batch, context=self.context // 2, long_context=self.context)

    @property
    def budget(self) -> Budget:
        return Budget(seconds=60 * self.minutes, steps=self.steps)


@dataclass(frozen=True, slots=True)
class Work:
    """Where things lie between the commands."""

    folder: Path

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def held_out(self) -> Path:
        """The documents that the held-out loss is measured on, as JSON lines."""
        return self.folder / "held_out.jsonl"

    @property
    def corpus_characters(self) -> Path:
        return self.folder / "corpus.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def tokens(self, part: str) -> Path:
        return self.folder / f"{part}.npy"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, or all of them in order."""
    options = Options(**vars(_parser().parse_args(arguments)))
    options.work.mkdir(parents=True, exist_ok=True)
    commands = {"corpus": prepare, "train": run_training, "export": export}
    for name in commands if options.command == "all" else (options.command,):
        commands[name](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/pretrain", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=["all", "corpus", "train", "export"], nargs="?", default="all")
    add(
        "--work",
        type=Path,
        default=Path("runs/pretrain"),
        help="packages, tokens and checkpoints; a run goes on from here",
    )
    add("--assets", type=Path, default=ROOT / "gradients/assets", help="where models/ and data/ are written")
    add(
        "--held-out",
        type=Path,
        default=ROOT / "tests/ml/nano_lm_held_out.jsonl",
        help="where the measured texts are written",
    )
    add("--texts", type=Path, help="a file with one document a line, instead of the packages")
    add("--minutes", type=float, default=60.0, help="time to train; the learning rate falls to zero at its end")
    add("--steps", type=int, default=1_000_000, help="steps to train, where they come first")
    add("--checkpoint-minutes", type=float, default=4.0, help="time between checkpoints")
    add("--vocabulary", type=int, default=2048, help="entries of the tokenizer")
    add("--hidden", type=int, default=192, help="width, a multiple of 32")
    add("--layers", type=int, default=4, help="depth")
    add("--context", type=int, default=512, help="positions")
    add("--batch", type=int, default=12, help="rows of half the context in a step")
    add("--seed", type=int, default=0, help="of weights, order and choice of held-out synsets")
    add("--held-out-one-in", type=int, default=400, help="one document in so many is measured on, not trained on")
    add("--machine", default="a CPU, one thread", help="the class of machine, for the record")
    return parser


def prepare(options: Options) -> None:
    """Fetch and clean the texts, write the data sets, train the tokenizer, and store the token streams."""
    work = Work(options.work)
    if options.texts:
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        documents = [Document("texts", line) for line in lines if line]
    else:
        documents = _documents_of_packages(options)
    split = split_documents(documents, one_in=options.held_out_one_in, held_out_characters=HELD_OUT_CHARACTERS)
    texts = (document.text for document in split.train)
    tokenizer = train_tokenizer(texts, vocabulary=options.vocabulary, context=options.context)
    tokenizer.save_pretrained(work.tokenizer)
    write_rows(work.held_out, [document._asdict() for document in split.held_out])
    np.save(work.tokens("train"), encode(split.train, tokenizer))
    np.save(work.tokens("held_out"), encode(split.held_out, tokenizer))
    characters = Counter[str]()
    for document in documents:
        characters[document.source] += len(document.text)
    write_text(work.corpus_characters, json.dumps(characters))
    print(f"corpus: {len(documents):,} documents, {characters.total():,} characters {dict(characters)}", flush=True)


def _documents_of_packages(options: Options) -> list[Document]:
    """The corpus; the data sets of the demo are written on the way, since what is held out decides both."""
    fetched = fetch(options.work)
    synsets = read_synsets(fetched["wordnet-base"].unpacked / "usr/share/wordnet")
    hold_out = choose_hold_out(synsets, seed=options.seed)
    documents = build_corpus(fetched, synsets, is_held_out=hold_out_test(hold_out, synsets), seed=options.seed)
    shipped = hold_out.fit_to_ship("\n".join(document.text for document in documents))
    folder = options.assets / "data"
    dialogues = next(fetch_one(DIALOGUES, options.work).unpacked.glob("*/chatterbot_corpus/data/english"))
    write_rows(folder / "wordnet-definitions/rows.jsonl", definition_rows(shipped.definitions))
    write_rows(folder / "wordnet-preferences/rows.jsonl", preference_rows(shipped.preferences, seed=options.seed))
    write_rows(folder / "wordnet-rag/passages.jsonl", passage_rows(shipped.passages))
    write_rows(folder / "wordnet-rag/rows.jsonl", question_rows(shipped.passages))
    write_rows(folder / "chatterbot-dialogues/rows.jsonl", dialogue_rows(dialogues, seed=options.seed))
    return documents


def run_training(options: Options) -> None:
    """Train, going on from a checkpoint in the work folder."""
    work = Work(options.work)
    tokenizer = _tokenizer(work)
    model = build_model(tokenizer, options.shape, seed=options.seed)
    corpus = Corpus(
        train=np.load(work.tokens("train")),
        held_out=np.load(work.tokens("held_out")),
        end_of_text=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
    )
    print(f"training {model.num_parameters():,} parameters on {len(corpus.train):,} tokens", flush=True)
    train(
        model,
        corpus,
        recipe=options.recipe,
        budget=options.budget,
        checkpoint=work.checkpoint,
        every_seconds=60 * options.checkpoint_minutes,
        on_point=lambda run: print(json.dumps(run.history[-1]), flush=True),
    )


def export(options: Options) -> None:
    """Write the model folder from the last checkpoint: weights, tokenizer, record, card."""
    work, folder = Work(options.work), options.assets / MODEL
    tokenizer = _tokenizer(work)
    model = build_model(tokenizer, options.shape, seed=options.seed)
    run = load_checkpoint(work.checkpoint, model, [])
    export_model(model, tokenizer, folder)
    held_out = sorted(Document(**json.loads(line)) for line in work.held_out.read_text(encoding="utf-8").splitlines())
    record = training_record(
        run,
        recipe=options.recipe,
        budget=options.budget,
        fetched=[] if options.texts else list(fetch(options.work).values()),
        corpus_characters=json.loads(work.corpus_characters.read_text(encoding="utf-8")),
        machine=options.machine,
    ) | {
        "held_out_loss_by_source": {
            source: round(held_out_loss(model, encode(list(group), tokenizer), context=measured_context(model)), 4)
            for source, group in groupby(held_out, key=attrgetter("source"))
        },
        "parameters": model.num_parameters(),
        "samples": samples(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), tokenizer, seed=options.seed),
    }
    write_text(folder / "training.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_text(folder / "README.md", model_card(record, config))
    shutil.copyfile(work.held_out, options.held_out)
    print("\n---\n".join(record["samples"]), flush=True)


def _tokenizer(work: Work) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(work.tokenizer)
