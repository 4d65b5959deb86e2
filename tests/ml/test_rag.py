"""Measuring RAG tasks, the numbers beside the loss, and retrieval by embeddings in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torchmetrics.functional.text import squad
from transformers import BertConfig, BertModel

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.ml.losses import RowLoss
from gradients.ml.sentence_embeddings import embed
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.preparation import prepare
from gradients.tasks.rag.answers import exact_match, f1
from gradients.tasks.rag.metric import MOST_WRITTEN, RagRow, Written, as_people_count, by_kind, measure
from gradients.tasks.rag.retrieval import embedding_scores, shipped_encoder
from gradients.tasks.rag.spec import RAG
from gradients.tasks.registry import validate_request
from gradients.testing.task_samples import sample_of

ABSTENTION = "Not here."
WORDS = ("ferry", "lantern", "meadow", "anvil", "red", "blue", "the", "by", "sea", "night")


def _row(answer: str, *, answerable: bool = True) -> RagRow:
    prompt = f"[1] {answer} by the sea\n\nWhat is it?"
    return RagRow(prompt=prompt, completion=answer if answerable else ABSTENTION, answer=answer, answerable=answerable)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers that knows ten words."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(5)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=512, **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def _measured(base_folder: Path, folder: Path, *, rows: int, seed: int) -> EntrantResult:
    folder.mkdir()
    held_out = folder / "held_out.jsonl"
    made = (_row(f"{WORDS[n % 10]} number {n}", answerable=n % 4 > 0) for n in range(rows))
    held_out.write_text("".join(row.model_dump_json() + "\n" for row in made))
    job = MeasureJob(
        base_folder=base_folder,
        held_out_file=held_out,
        parameters={"corpus": "elsewhere.jsonl", "abstention": ABSTENTION},
        entrants=(Entrant(id="base"),),
        results_folder=folder / "results",
        seed=seed,
    )
    measure(job.model_dump(mode="json"), _ignore)
    return EntrantResult.model_validate_json((folder / "results" / "base.json").read_bytes())


def test_the_score_is_the_mean_loss_of_all_rows_whatever_is_written(base_folder: Path, tmp_path: Path) -> None:
    one, other = (_measured(base_folder, tmp_path / str(seed), rows=60, seed=seed) for seed in (1, 2))
    assert one.value == pytest.approx(fmean(one.per_row))
    assert len(one.per_row) == 60
    assert one.per_row == other.per_row
    assert one.extras["rows_written"] == MOST_WRITTEN == 48
    answerable = [loss for n, loss in enumerate(one.per_row) if n % 4 > 0]
    assert one.extras["answerable_loss"] == pytest.approx(fmean(answerable))


def test_measuring_twice_leaves_the_same_numbers(base_folder: Path, tmp_path: Path) -> None:
    once, twice = (_measured(base_folder, tmp_path / name, rows=6, seed=3) for name in ("once", "twice"))
    assert once.per_row == twice.per_row
    assert once.extras == twice.extras


def test_only_rows_that_can_be_answered_count_for_exact_match_and_f1() -> None:
    written = [
        Written(_row("red ferry"), "the red ferry"),  # right
        Written(_row("blue anvil"), "blue lantern"),  # half of it
        Written(_row("night"), ABSTENTION),  # abstained where it could have answered
        Written(_row("sea", answerable=False), "not here"),  # abstained as it should
        Written(_row("sea", answerable=False), "sea"),  # knows it from elsewhere, which is not asked for
    ]
    assert as_people_count(written, ABSTENTION) == pytest.approx(
        {
            "exact_match": 1 / 3,
            "f1": (1 + 0.5 + 0) / 3,
            "abstention_accuracy": 3 / 5,
            "abstention_recall": 1 / 2,
            "rows_written": 5.0,
        }
    )


def test_numbers_that_no_row_speaks_for_are_left_out() -> None:
    rows = [_row("sea")] * 2
    assert by_kind(rows, [RowLoss(1.0, 2), RowLoss(2.0, 2)]) == {"answerable_loss": 1.5}
    assert "abstention_recall" not in as_people_count([Written(rows[0], "sea")], ABSTENTION)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The Denver Broncos!", "Denver Broncos"),
        ("Broncos", "Denver Broncos"),
        ("in 1999, in the end", "In 1998 in the end"),
        ("U.S. president", "the US President"),
        ("north", "south"),
        ("theatre of the absurd", "an absurd theatre"),
        ("an “open” question", 'a "open" question'),
        ("", "something"),
    ],
)
def test_exact_match_and_f1_agree_with_torchmetrics(answer: str, right: str) -> None:
    target = {"answers": {"answer_start": [0], "text": [right]}, "id": "1"}
    theirs = squad({"prediction_text": answer, "id": "1"}, target)
    assert 100 * exact_match(answer, right) == pytest.approx(theirs["exact_match"].item())
    assert 100 * f1(answer, right) == pytest.approx(theirs["f1"].item(), rel=1e-5)


def test_a_text_is_embedded_the_same_whoever_it_shares_a_batch_with(encoder: Path) -> None:
    texts = [" ".join(WORDS[: 1 + n % 10]) for n in range(40)]
    together = embed(encoder, texts)
    assert torch.allclose(together.norm(dim=1), torch.ones(40), atol=1e-6)
    assert torch.allclose(together[7], embed(encoder, texts[7:8])[0], atol=1e-6)


def test_an_embedding_is_the_mean_over_the_texts_own_tokens(encoder: Path) -> None:
    model = BertModel.from_pretrained(encoder).eval()
    tokens = [2, 5 + WORDS.index("red"), 5 + WORDS.index("ferry"), 3]  # [CLS] red ferry [SEP]
    with torch.inference_mode():
        mean = model(torch.tensor([tokens])).last_hidden_state[0].mean(dim=0)
    padded = embed(encoder, ["red ferry", " ".join(WORDS)])[0]
    assert torch.allclose(padded, mean / mean.norm(), atol=1e-6)


@pytest.mark.slow
def test_the_closest_passage_by_embeddings_is_the_text_itself(encoder: Path) -> None:
    passages = ["red ferry by the sea", "lantern", "blue anvil by night"]
    scores = list(embedding_scores(passages, passages[::-1], encoder=encoder))
    assert [int(of_question.argmax()) for of_question in scores] == [2, 1, 0]
    assert scores[0][2] == pytest.approx(1.0)


def test_an_encoder_that_cannot_be_loaded_is_our_failure(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="could not be encoded"):
        list(embedding_scores(["a"], ["b"], encoder=tmp_path))


@pytest.mark.slow
def test_the_shipped_encoder_knows_what_means_the_same() -> None:
    passages = ["The cat sat on the mat.", "Interest rates rose again.", "A kitten rested upon the rug."]
    [scores] = embedding_scores(passages[1:], passages[:1], encoder=shipped_encoder())
    assert scores[1] > 0.4 > 0.2 > scores[0]


@pytest.mark.slow
def test_a_task_can_be_prepared_with_passages_found_by_their_meaning(tmp_path: Path) -> None:
    """Every question has two passages, the one with the answer among them unless the row is to abstain."""
    sample = sample_of("rag")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sample.rows), encoding="utf-8")
    parameters: JsonObject = {**sample.parameters(tmp_path), "retriever": "embedding"}
    request = validate_request(
        {"type": "rag", "base": "tiny", "dataset": str(file), "hours": 1, "parameters": parameters}
    )
    data = prepare(RAG, request, salt=b"salt", folder=tmp_path / "data")
    assert (data.train_rows, data.held_out_rows) == (84, 16)
    for line in data.train_file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        house = row["question"].removeprefix("What belongs to house ").removesuffix("?")
        passages = row["prompt"].partition("\n\n")[0].splitlines()
        assert len(passages) == 2
        assert any(f"House {house}:" in passage for passage in passages) == row["answerable"]


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
