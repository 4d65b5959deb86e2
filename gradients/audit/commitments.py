"""What miners committed to and revealed: proofs against the payload on chain, signed answers, and the terms that they were told.

The terms are what binds most of a record: a manifest names their digest, the manifest's digest is under the root that stood on chain at the
deadline, and the terms name request, data, blocks and draw. Whoever changes one of these afterwards contradicts the chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from gradients.audit.report import Checks
from gradients.axon.evidence import SignedAnswer
from gradients.axon.messages import Reveal, Start
from gradients.domain.chain import Commitment
from gradients.domain.commitment import Opening, ProofStep, opens
from gradients.domain.json import Json
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey
from gradients.errors import MinerError
from gradients.record.models import CommitmentPart, EntrantPart, TaskBody
from gradients.record.terms import start_of, task_in
from gradients.repo.manifest import Manifest, parse_manifest

# What a start message says -> where the record says it.
PLACES = {
    "offer.task_id": "task_id",
    "offer.type": "request.type",
    "offer.base": "request.base",
    "offer.base_digest": "data.base_digest",
    "offer.base_parameters": "data.base_parameters",
    "offer.train_rows": "data.train_rows",
    "offer.hours": "request.hours",
    "offer.needs_sandbox": "request.parameters",
    "parameters": "request.parameters",
    "train.sha256": "data.train.sha256",
    "train.size_bytes": "data.train.size_bytes",
    "held_out_commitment": "data.held_out_commitment",
    "started_at_block": "blocks.started_at_block",
    "deadline_block": "blocks.deadline_block",
    "reveal_until_block": "blocks.reveal_until_block",
    "draw_sha256": "draw",
}


def check_commitments(
    body: TaskBody, checks: Checks, *, validator: str, on_chain: Mapping[Hotkey, Commitment] | None
) -> None:
    """Whether every submission was committed as the record says.

    Args:
        validator: whom the answers were given to.
        on_chain: what stood on chain at the deadline block; None when that is not known.
    """
    for place, entrant in enumerate(body.entrants):
        path = f"body.entrants.{place}"
        if entrant.commitment is None:
            if entrant.measurement is not None and entrant.entrant != BASE_ENTRANT:
                checks.alarm(f"{path}.commitment", None, "a submission that was measured was committed and revealed")
            continue
        if on_chain is not None:
            _against_chain(entrant, entrant.commitment, on_chain, checks, path)
        _opened(body, entrant, entrant.commitment, checks, path, validator=validator)


def _against_chain(
    entrant: EntrantPart, part: CommitmentPart, on_chain: Mapping[Hotkey, Commitment], checks: Checks, path: str
) -> None:
    found = on_chain.get(Hotkey(entrant.entrant))
    if found is None:
        checks.alarm(f"{path}.commitment", part.payload, "nothing stood on chain at the deadline block")
        return
    checks.equal(f"{path}.commitment.payload", part.payload, found.payload.hex())
    checks.equal(f"{path}.commitment.block", part.block, found.block)
    alone = sum(each.block == found.block for each in on_chain.values()) == 1
    if alone:  # then its place decides nothing, and nobody looks it up
        checks.equal(f"{path}.commitment.extrinsic", part.extrinsic, None)
    elif part.extrinsic is None or found.extrinsic_index is None:
        checks.note(f"the place of {entrant.entrant}'s commitment in block {part.block} is not known")
    else:
        checks.equal(f"{path}.commitment.extrinsic", part.extrinsic, found.extrinsic_index)


def _opened(
    body: TaskBody, entrant: EntrantPart, part: CommitmentPart, checks: Checks, path: str, *, validator: str
) -> None:
    """Whether signature, proof, manifest and terms fit each other."""
    answer = part.answer
    signed = SignedAnswer(answer.body, answer.target, answer.nonce_ns, answer.signature)
    checks.holds(
        f"{path}.commitment.answer",
        signed.is_from(entrant.entrant, to=validator),
        answer.signature,
        f"not signed by {entrant.entrant} as an answer to {validator}",
    )
    asked = f"/v1/tasks/{body.task_id}/submission"
    checks.holds(f"{path}.commitment.answer.target", answer.target.endswith(f" {asked}"), answer.target, asked)
    checks.holds(
        f"{path}.commitment.block",
        part.block <= body.blocks.deadline_block,
        part.block,
        f"at most the deadline block {body.blocks.deadline_block}",
    )
    try:
        reveal = Reveal.model_validate_json(answer.body)
        manifest = parse_manifest(reveal.manifest)
        payload = bytes.fromhex(part.payload)
    except (ValidationError, ValueError, MinerError) as error:
        checks.alarm(f"{path}.commitment.answer.body", answer.body, f"it is not a reveal: {error}")
        return
    opening = Opening(
        netuid=body.netuid,
        task_id=body.task_id,
        hotkey=entrant.entrant,
        manifest_sha256=hashlib.sha256(reveal.manifest.encode()).hexdigest(),
        salt=reveal.salt,
    )
    proof = [ProofStep(step.height, step.sibling) for step in reveal.proof]
    if not opens(payload, opening, proof):
        checks.alarm(f"{path}.commitment.payload", part.payload, "the revealed manifest is not under this root")
        checks.alarm("body.netuid", body.netuid, f"with it {entrant.entrant}'s reveal does not open its commitment")
    checks.equal(f"{path}.entrant", entrant.entrant, manifest.hotkey)
    checks.equal("body.task_id", body.task_id, manifest.task_id)
    checks.equal("body.data.base_digest", body.data.base_digest, manifest.base_digest)
    _check_terms(body, entrant, reveal, manifest, checks, path)


def _check_terms(
    body: TaskBody, entrant: EntrantPart, reveal: Reveal, manifest: Manifest, checks: Checks, path: str
) -> None:
    """Whether the record says what the miner was told."""
    if manifest.terms_sha256 is None or reveal.start is None:
        checks.note(f"{entrant.entrant} did not commit to the terms that it was told")
        return
    if not checks.equal(f"{path}.commitment.answer.body", reveal.start.terms_sha256, manifest.terms_sha256):
        return
    try:
        start = start_of(task_in(body), entrant.start_seed or 0)
    except Exception as error:  # whatever a request that makes no sense leads to in its task type
        checks.alarm("body.request", body.request.model_dump(mode="json"), f"it is not a task: {error}")
        return
    told, recorded = dict(_leaves(reveal.start)), dict(_leaves(start))
    for name in sorted(told.keys() | recorded.keys()):
        if told.get(name) != recorded.get(name):
            place = f"{path}.start_seed" if name == "seed" else f"body.{PLACES.get(name, name)}"
            checks.alarm(place, recorded.get(name), told.get(name))


def _leaves(message: Start | BaseModel, under: str = "") -> Iterator[tuple[str, Json]]:
    """Paths and values of a message; parameters count as one."""
    for name in type(message).model_fields:
        value = getattr(message, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", value
