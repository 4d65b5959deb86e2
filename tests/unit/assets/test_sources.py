"""Running the registries' clients: what is left behind is whole, and a failure says what to do."""

import sys
from pathlib import Path

import pytest

from gradients.errors import OutsideError, SetupError
from scripts.pretraining.sources import Package, fetch_one, run_program


def packed(work: Path, name: str) -> Package:
    """A package as if npm had brought it."""
    content = work / "package"
    content.mkdir(parents=True)
    (content / "README.md").write_text("hello", encoding="utf-8")
    downloads = work / "packages" / name
    downloads.mkdir(parents=True)
    run_program(["tar", "-czf", str(downloads.resolve() / f"{name}-1.0.0.tgz"), "package"], folder=work)
    return Package(name, "npm", "CC0")


def test_a_downloaded_package_is_unpacked_and_recorded(tmp_path: Path) -> None:
    fetched = fetch_one(packed(tmp_path, "greeting"), tmp_path)

    assert (fetched.unpacked / "package/README.md").read_text(encoding="utf-8") == "hello"
    assert fetched.file == "greeting-1.0.0.tgz"
    assert len(fetched.sha256) == 64


def test_a_broken_package_leaves_no_folder_that_looks_unpacked(tmp_path: Path) -> None:
    package = packed(tmp_path, "greeting")
    next((tmp_path / "packages/greeting").iterdir()).write_bytes(b"no archive")

    with pytest.raises(OutsideError, match="tar"):
        fetch_one(package, tmp_path)

    assert not (tmp_path / "unpacked/greeting").exists()


def test_a_missing_client_is_named() -> None:
    with pytest.raises(SetupError, match="no-such-client is not installed"):
        run_program(["no-such-client"], folder=Path())


def test_a_failing_client_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="no network"):
        run_program([sys.executable, "-c", "raise SystemExit('no network')"], folder=tmp_path)
