"""A committed root opens every submission that was put under it, nothing else, and never two for one task."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.domain.commitment import EMPTY, HEIGHT, PREFIX, Opening, ProofStep, opens, payload, prove

HOTKEY = "5F4bkC9JdaJpfXoZbgVkmdZ1rD7DZ2FzXkQhXCAtDEmTcqYA"


def opening(task: int, *, manifest: int = 0, salt: int = 0, hotkey: str = HOTKEY) -> Opening:
    digest = hashlib.sha256(str(manifest).encode()).hexdigest()
    return Opening(7, f"instruct-{task:012x}", hotkey, digest, f"{salt:064x}")


@settings(max_examples=100, deadline=None)
@given(tasks=st.sets(st.integers(0, 10_000), min_size=1, max_size=20), salt=st.integers(0, 2**256 - 1), data=st.data())
def test_every_submission_under_a_root_opens_and_no_other_one(tasks: set[int], salt: int, data: st.DataObject) -> None:
    held = [opening(task, manifest=task, salt=salt) for task in sorted(tasks)]
    leaves = data.draw(st.permutations([each.leaf() for each in held]))
    committed = payload(leaves)
    for each in held:
        proof = prove(leaves, each.leaf())
        assert opens(committed, each, proof)
        others = (
            replace(each, manifest_sha256="0" * 64),
            replace(each, salt=f"{salt ^ 1:064x}"),
            replace(each, hotkey="5other"),
            replace(each, netuid=8),
            replace(each, task_id="instruct-ffffffffffff"),
        )
        assert not any(opens(committed, other, proof) for other in others)


def test_a_root_cannot_be_made_over_two_submissions_of_one_task() -> None:
    leaves = [opening(1, manifest=manifest).leaf() for manifest in range(2)]
    with pytest.raises(ValueError, match="at most one for each task"):
        payload(leaves)


def test_of_forty_submissions_of_one_task_under_a_forged_root_not_two_open() -> None:
    """The attack: 40 models, one root, and after the deadline whichever turned out best is shown.

    The attacker hashes as it likes: here a tree of its own over 40 leaves of the task, each proven by the siblings of that tree in every
    place where the rule lets a sibling stand.
    """
    forty = [opening(1, manifest=number, salt=number) for number in range(40)]
    levels = [[each.leaf()[32:] for each in forty]]
    while len(levels[-1]) > 1:
        below = levels[-1] + [EMPTY] * (len(levels[-1]) % 2)
        pairs = range(0, len(below), 2)
        levels.append([hashlib.sha256(b"\x01" + below[i] + below[i + 1]).digest() for i in pairs])
    node = levels[-1][0]  # up to the real height, as an honest tree would go on above a subtree
    position = int.from_bytes(forty[0].leaf()[:32], "big")
    for height in range(len(levels) - 1, HEIGHT):
        left, right = (EMPTY, node) if position >> height & 1 else (node, EMPTY)
        node = hashlib.sha256(b"\x01" + left + right).digest()
    committed = PREFIX + node.hex().encode()
    opened = set()
    for number, each in enumerate(forty):
        siblings = [
            level[number >> height ^ 1] for height, level in enumerate(levels[:-1]) if number >> height ^ 1 < len(level)
        ]
        for shift in range(3):
            proof = [ProofStep(height + shift, sibling.hex()) for height, sibling in enumerate(siblings)]
            if opens(committed, each, proof):
                opened.add(each.manifest_sha256)
    assert len(opened) <= 1


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(-1, 300), st.binary(min_size=0, max_size=33)), max_size=40))
def test_no_proof_opens_a_second_submission_of_a_task(steps: list[tuple[int, bytes]]) -> None:
    leaves = [opening(task).leaf() for task in range(8)]
    committed, second = payload(leaves), opening(3, manifest=1)
    real = list(prove(leaves, leaves[3]))
    made_up = [ProofStep(height, sibling.hex()) for height, sibling in steps]
    assert not opens(committed, second, made_up)
    assert not opens(committed, second, real + made_up)


def test_a_sibling_that_is_named_twice_or_outside_of_the_tree_opens_nothing() -> None:
    leaves = [opening(task).leaf() for task in range(4)]
    committed, proof = payload(leaves), prove(leaves, leaves[0])
    assert opens(committed, opening(0), proof)
    assert not opens(committed, opening(0), [*proof, proof[0]])
    assert not opens(committed, opening(0), [*proof, ProofStep(HEIGHT, "00" * 32)])
    assert not opens(committed, opening(0), [*proof, ProofStep(-1, "00" * 32)])


def test_a_lone_submission_needs_no_siblings_and_fits_on_chain() -> None:
    leaf = opening(5).leaf()
    assert prove([leaf], leaf) == ()
    assert opens(payload([leaf]), opening(5), ())
    assert len(payload([leaf])) <= 128


def test_what_is_not_under_the_root_cannot_be_proven() -> None:
    leaves = [opening(task).leaf() for task in range(3)]
    with pytest.raises(ValueError, match="not among"):
        prove(leaves, opening(3).leaf())
    with pytest.raises(ValueError, match="at least one"):
        payload([])
