"""Other ways to measure adapters on the same rows, as one would write them with the field's libraries: nothing of ours is in them.

Run as a process: python -m scripts.benchmarks.rivals WAY FOLDER, where the folder holds `job.json`: {"base", "rows", "adapters", "threads",
"folder"}. The rows are tokens and the position at which the completion starts, so that all ways count the same. It leaves `out.json`: the
mean loss of each row for each model, the base first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

PLAIN_ROWS = 8  # of a batch
IGNORED = -100


def plain(job: dict[str, Any]) -> list[list[float]]:
    """One process, one base; adapters are loaded beside one another and switched; eight rows at once, no gradients."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32).eval()
    found = [_losses(model, job["rows"])]
    for number, adapter in enumerate(job["adapters"]):
        if number == 0:
            model = PeftModel.from_pretrained(model, adapter, adapter_name="a0").eval()
        else:
            model.load_adapter(adapter, adapter_name=f"a{number}")
        model.set_adapter(f"a{number}")
        found.append(_losses(model, job["rows"]))
        if number:
            model.delete_adapter(f"a{number}")
    return found


def trainer(job: dict[str, Any]) -> list[list[float]]:
    """transformers.Trainer's evaluation at batch 1, for the one model of the job: how the incumbent measures, a process each."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    model: Any = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    for adapter in job["adapters"]:
        model = PeftModel.from_pretrained(model, adapter)
    rows = [
        {"input_ids": row["tokens"], "labels": [IGNORED] * row["start"] + row["tokens"][row["start"] :]}
        for row in job["rows"]
    ]
    arguments = TrainingArguments(
        output_dir=job["folder"], per_device_eval_batch_size=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    evaluation = Trainer(model=model, args=arguments, eval_dataset=rows, data_collator=_one).evaluate()
    return [[float(evaluation["eval_loss"])]]


def lm_eval(job: dict[str, Any]) -> list[list[float]]:
    """lm-evaluation-harness' log-likelihoods, eight rows at once, for the one model of the job."""
    from lm_eval.models.huggingface import HFLM

    peft = job["adapters"][0] if job["adapters"] else None
    harness: Any = HFLM(pretrained=job["base"], peft=peft, device="cpu", dtype="float32", batch_size=PLAIN_ROWS)
    asked = [(("", ""), row["tokens"][: row["start"]], row["tokens"][row["start"] :]) for row in job["rows"]]
    said = harness._loglikelihood_tokens(asked, disable_tqdm=True)
    counts = [len(row["tokens"]) - row["start"] for row in job["rows"]]
    return [[-float(likelihood) / count for (likelihood, _), count in zip(said, counts, strict=True)]]


WAYS: dict[str, Callable[[dict[str, Any]], list[list[float]]]] = {
    "plain": plain,
    "trainer": trainer,
    "lm_eval": lm_eval,
}


def main(way: str, folder: Path) -> None:
    """Do the job in the folder."""
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    (folder / "out.json").write_text(json.dumps(WAYS[way](job)))


def _losses(model: Any, rows: Sequence[dict[str, Any]]) -> list[float]:  # noqa: ANN401 (transformers' or peft's model)
    found = []
    for first in range(0, len(rows), PLAIN_ROWS):
        some = rows[first : first + PLAIN_ROWS]
        longest = max(len(row["tokens"]) for row in some)
        tokens = torch.zeros(len(some), longest, dtype=torch.int64)
        labels = torch.full_like(tokens, IGNORED)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(some):
            ids, start = torch.tensor(row["tokens"]), row["start"]
            tokens[number, : len(ids)], mask[number, : len(ids)] = ids, 1
            labels[number, start : len(ids)] = ids[start:]
        with torch.inference_mode():
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        targets = labels[:, 1:]
        losses = cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
        found += (losses.sum(dim=1) / (targets != IGNORED).sum(dim=1)).tolist()
    return found


def _one(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
