"""What `gradients upgrade` would install: what is named, and a checkout only where nothing can be lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gradients.backup.checkouts import move
from gradients.backup.sources import of_name
from gradients.errors import SetupError


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    run = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def commit(folder: Path, version: str) -> str:
    (folder / "gradients").mkdir(parents=True, exist_ok=True)
    (folder / "gradients" / "__init__.py").write_text(f'"""A package."""\n\n__version__ = "{version}"\n')
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", version)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, "1.0")
    return folder


@pytest.fixture
def checkout(tmp_path: Path, upstream: Path) -> Path:
    git(tmp_path, "clone", "--quiet", str(upstream), "checkout")
    return tmp_path / "checkout"


def test_a_checkout_goes_to_what_its_branch_follows_and_back(upstream: Path, checkout: Path) -> None:
    before = git(checkout, "rev-parse", "HEAD")
    after = commit(upstream, "2.0")
    way = move(checkout, None)
    assert (way.before, way.after, way.version) == (before, after, "2.0")
    way.forth()
    assert '"2.0"' in (checkout / "gradients" / "__init__.py").read_text()
    way.back()
    assert (git(checkout, "rev-parse", "HEAD"), git(checkout, "branch", "--show-current")) == (before, "main")
    assert '"1.0"' in (checkout / "gradients" / "__init__.py").read_text()


def test_a_checkout_of_a_tag_goes_to_another_tag_also_an_older_one(upstream: Path, checkout: Path) -> None:
    git(upstream, "tag", "v1")
    commit(upstream, "2.0")
    git(upstream, "tag", "v2")
    git(checkout, "fetch", "--quiet", "--tags")
    git(checkout, "checkout", "--quiet", "--detach", "v2")
    with pytest.raises(SetupError, match="is on no branch that follows another"):
        move(checkout, None)
    way = move(checkout, "v1")
    way.forth()
    assert git(checkout, "rev-parse", "HEAD") == git(checkout, "rev-parse", "v1")


def test_nothing_of_somebody_is_lost(upstream: Path, checkout: Path) -> None:
    commit(upstream, "2.0")
    commit(checkout, "1.1")
    with pytest.raises(SetupError, match="is not ahead of the branch main"):
        move(checkout, None)
    (checkout / "gradients" / "__init__.py").write_text("changed")
    with pytest.raises(SetupError, match=r"has changes of its own: gradients/__init__\.py"):
        move(checkout, None)


def test_what_git_does_not_have_is_refused(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(SetupError, match="has no --force"):
        move(checkout, "--force")
    with pytest.raises(SetupError, match="which is not a checkout of git"):
        move(checkout / "gradients", None)  # a part of one: moving it would move the rest too
    with pytest.raises(SetupError, match="which is not a checkout of git") as refused:
        move(tmp_path, None)
    assert refused.value.code == "in_checkout"


def test_a_folder_is_named_by_its_version_and_brings_its_constraints(tmp_path: Path) -> None:
    (tmp_path / "gradients").mkdir()
    (tmp_path / "gradients" / "__init__.py").write_text('__version__ = "3.1"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "gradients-subnet"\n')
    (tmp_path / "constraints.txt").touch()
    source = of_name(str(tmp_path))
    assert (source.said, source.asked) == (f"3.1 ({tmp_path})", (str(tmp_path),))
    assert source.constraints == tmp_path / "constraints.txt"


def test_wheels_and_repositories_can_be_named(tmp_path: Path) -> None:
    wheel = tmp_path / "gradients_subnet-3.2-py3-none-any.whl"
    wheel.touch()
    assert of_name(str(wheel)).said == f"3.2 ({wheel})"
    assert of_name("git+https://example.org/gradients@v3").asked == ("git+https://example.org/gradients@v3",)


@pytest.mark.parametrize("content", ["", '[project]\nname = "another"\n', "not TOML"])
def test_what_is_not_this_package_is_refused(tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(SetupError) as refused:
        of_name(str(tmp_path))
    assert refused.value.code == "no_source"
