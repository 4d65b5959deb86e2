"""Jobs that go to another machine: same names, same bytes, no way out of where they are put."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from gradients.cluster.digests import Digests
from gradients.cluster.parcel import Parcel, TreeFile, pack, trees_of, unpack
from gradients.execution.job import Held, Job, JobLimits
from gradients.execution.records import digest


def given(folder: Path) -> Job:
    base, rows = folder / "base", folder / "rows.jsonl"
    (base / "sub").mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "sub" / "model.safetensors").write_bytes(b"weights")
    rows.write_text("rows")
    return Job(
        "package.module:function",
        {"base": str(base), "rows": str(rows), "out": str(folder / "out"), "config": str(base / "config.json"), "n": 3},
        folder / "job",
        deadline_seconds=7.0,
        threads=2,
        reads=(base, rows, folder / "missing"),
        writes=(folder / "out",),
        packages=("package",),
        limits=JobLimits(1, 2, 3),
        accelerator=True,
        devices=("H100/node/0",),
        holds=Held("package.module:hold", {"base": str(base)}, reads=(base,), bytes=11),
        runs_programs=True,
    )


def test_a_job_is_the_same_on_the_other_side_but_for_its_places(tmp_path: Path) -> None:
    job = given(tmp_path)
    trees = trees_of(job, Digests().sha256)
    parcel = Parcel.model_validate_json(
        pack(job, trees, sandboxed=True, origin="http://127.0.0.1:1", token="t").model_dump_json()
    )
    there = {tree.digest: Path("/kept") / tree.digest / tree.name for tree in parcel.trees}
    base, rows = (there[trees[place].digest] for place in job.reads[:2])
    found = unpack(parcel, there, Path("/node/run"), devices=["4"])
    out = Path("/node/run/writes/0")
    assert found == replace(
        job,
        arguments={
            "base": str(base),
            "rows": str(rows),
            "out": str(out),
            "config": str(base / "config.json"),
            "n": 3,
        },
        folder=Path("/node/run/job"),
        reads=(base, rows),
        writes=(out,),
        devices=("4",),
        holds=Held("package.module:hold", {"base": str(base)}, reads=(base,), bytes=11),
    )
    assert str(tmp_path) not in parcel.model_dump_json()


def test_a_base_has_one_place_whoever_reads_it_and_a_changed_one_another(tmp_path: Path) -> None:
    first, second = given(tmp_path / "one"), given(tmp_path / "two")
    digests = Digests()
    of_first, of_second = trees_of(first, digests.sha256), trees_of(second, digests.sha256)
    assert [tree.digest for tree in of_first.values()] == [tree.digest for tree in of_second.values()]
    (tmp_path / "two" / "base" / "config.json").write_text("[]")
    assert trees_of(second, digests.sha256)[tmp_path / "two" / "base"].digest not in {
        t.digest for t in of_first.values()
    }
    assert digest(first) != digest(second)  # results are looked for by the places of this machine


@pytest.mark.parametrize("path", ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        TreeFile(path=path, sha256="0" * 64, size_bytes=0)
