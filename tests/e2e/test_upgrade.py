"""`gradients upgrade` in an environment of its own, by pip and git themselves: from a folder, in a checkout, and from an index.

The versions are this one's code with other numbers; the newer ones bring a migration and another version of a package that they need.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import venv
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradients import __version__
from gradients.clock import SystemClock
from gradients.files.locks import only_one
from validator.ledger import Ledger
from validator.ledger.examination import MIGRATIONS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
GOOD, BAD = "77.1.0", "77.2.0"
HEAD = max(file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("*.py"))
MIGRATION = '''"""A table more."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "{own}", "{before}", None, None
def upgrade() -> None:
    op.create_table("more_{own}", sa.Column("id", sa.Integer, primary_key=True))
def downgrade() -> None:
    op.drop_table("more_{own}")
'''
# What the doctor of the bad version does, in the place of its look at the software.
SICK = """
from gradients.doctor.findings import Finding
def software():
    yield Finding("versions", "missing", "planted")
"""
ENDED = """
import os, signal
def software():
    os.kill(os.getppid(), signal.SIGTERM)
    yield from ()
"""
WITHOUT_INDEX = """
import os, pathlib
from gradients.doctor.findings import Finding
def software():
    pathlib.Path(os.environ["PIP_FIND_LINKS"], "planted-1-py3-none-any.whl").unlink()
    yield Finding("versions", "missing", "planted")
"""
# How pip builds the folder: as hatchling would, without what hatchling needs.
BACKEND = """
import pathlib, zipfile
HERE = pathlib.Path(__file__).parent
def _wheel(to, files):
    about = (HERE / "METADATA").read_text()
    info = "gradients_subnet-" + about.partition("Version: ")[2].split()[-1] + ".dist-info"
    files |= {f"{info}/METADATA": about.encode(), f"{info}/entry_points.txt": b"[console_scripts]\\ngradients = gradients.cli.main:main\\n"}
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\\nGenerator: a test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"]).encode()
    name = info.replace(".dist-info", "-py3-none-any.whl")
    with zipfile.ZipFile(pathlib.Path(to) / name, "w") as target:
        for path, content in files.items():
            target.writestr(path, content)
    return name
def build_wheel(to, config_settings=None, metadata_directory=None):
    found = [path for top in ("gradients", "validator", "miner") for path in (HERE / top).rglob("*") if path.is_file()]
    return _wheel(to, {path.relative_to(HERE).as_posix(): path.read_bytes() for path in found})
def build_editable(to, config_settings=None, metadata_directory=None):
    return _wheel(to, {"_gradients.pth": f"{HERE}\\n".encode()})
"""
PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "gradients-subnet"
"""


def head() -> str:
    """The revision that this version's ledgers have."""
    (name,) = MIGRATIONS.glob(f"versions/{HEAD}_*.py")
    found = re.search(r"^revision.*?= \(?[\"'](\w+)[\"']", name.read_text(), flags=re.MULTILINE)
    assert found is not None
    return found[1]


def become(folder: Path, version: str, doctor: str | None = None) -> None:
    """Have the folder hold another version; the bad one needs another `planted`, and has a `doctor` of its own."""
    versions = folder / "validator" / "ledger" / "migrations" / "versions"
    module, about = folder / "gradients" / "__init__.py", folder / "METADATA"
    module.write_text(re.sub(r'(?m)^__version__ = ".*"', f'__version__ = "{version}"', module.read_text()))
    lines = [
        line for line in about.read_text().splitlines() if not line.startswith(("Version:", "Requires-Dist: planted"))
    ]
    needed = f"Requires-Dist: planted=={2 if version == BAD else 1}"
    about.write_text("\n".join([*(line for line in lines if line), needed, f"Version: {version}", ""]))
    if version != __version__:
        (versions / "7701_more.py").write_text(MIGRATION.format(own="7701_more", before=head()))
    if version == BAD:
        (versions / "7702_most.py").write_text(MIGRATION.format(own="7702_most", before="7701_more"))
    if doctor is not None:
        (folder / "gradients" / "doctor" / "software.py").write_text(doctor)


def planted(folder: Path, version: int) -> None:
    """A package that nobody else needs, as a wheel."""
    info = f"planted-{version}.dist-info"
    with zipfile.ZipFile(folder / f"planted-{version}-py3-none-any.whl", "w") as target:
        target.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: planted\nVersion: {version}\n")
        target.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        target.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """This code in a folder that pip can install; without models and extras, which no doctor needs."""
    folder = tmp_path / "source"
    left_out = shutil.ignore_patterns("__pycache__", "assets")
    for top in ("gradients", "validator", "miner"):
        shutil.copytree(ROOT / top, folder / top, ignore=left_out)
    shutil.copytree(ROOT / "configs", folder / "gradients" / "configs")
    about = str(importlib.metadata.distribution("gradients-subnet").read_text("METADATA")).partition("\n\n")[0]
    lines = [line for line in about.splitlines() if "extra ==" not in line and not line.startswith("License-File:")]
    (folder / "METADATA").write_text("\n".join(lines))
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PROJECT)
    become(folder, __version__)
    return folder


@dataclass
class Box:
    """An environment of its own over this one's packages, an index of two wheels, and a validator that is stopped."""

    home: Path

    @property
    def python(self) -> str:
        return str(self.home / "venv" / "bin" / "python")

    @property
    def folder(self) -> Path:
        return self.home / "val"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GRADIENTS_", "BT_", "PIP_", "PYTHON", "GIT_"))
        }
        index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.home / "index"), "PIP_CONFIG_FILE": os.devnull}
        here = clean | index | {"HOME": str(self.home)}
        return subprocess.run(
            command, env=here, cwd=self.home, capture_output=True, text=True, check=False, timeout=600
        )

    def install(self, *asked: str) -> None:
        run = self.run(
            self.python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", "planted==1", *asked
        )
        assert run.returncode == 0, run.stderr

    def gradients(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python, "-m", "gradients.cli", *arguments)

    def upgrade(self, *arguments: str) -> dict[str, str]:
        """What it says, or the error that it says."""
        run = self.gradients("upgrade", "--json", "--folder", str(self.folder), *arguments)
        said = json.loads(run.stdout)
        assert (run.returncode == 0) is ("error" not in said), run.stderr
        return dict(said.get("error", said))

    def state(self) -> tuple[str, str, str]:
        """Versions of the code that runs and of what it needs, and the ledger's revision."""
        show = "import gradients, importlib.metadata as m; print(gradients.__version__, m.version('planted'))"
        code, needed = self.run(self.python, "-c", show).stdout.split()
        with closing(sqlite3.connect(self.folder / "ledger.db")) as ledger:
            assert ledger.execute("SELECT COUNT(*) FROM api_keys").fetchone() == (1,)
            return code, needed, str(ledger.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def box(tmp_path: Path) -> Box:
    venv.create(tmp_path / "venv", with_pip=False)
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    seen = (sysconfig.get_paths()["purelib"], *(path for path in sys.path if path.endswith("site-packages")))
    (site / "over.pth").write_text("\n".join(dict.fromkeys(seen)) + "\n")
    (tmp_path / "index").mkdir()
    for version in (1, 2):
        planted(tmp_path / "index", version)
    folder = tmp_path / "val"
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    ledger.customers.issue("first")
    ledger.engine.dispose()
    settings = f'folder = "{folder}"\n[chain]\nnetwork = "ws://127.0.0.1:1"\n[axon]\nport = 0\n[api]\nport = 0\n'
    (folder / "settings.toml").write_text(settings)
    return Box(tmp_path)


def test_what_a_folder_holds_now_is_installed_and_does_not_work_so_everything_is_as_it_was(
    box: Box, source: Path
) -> None:
    box.install(str(source))
    was = (__version__, "1", head())
    become(source, BAD, SICK)
    with only_one(box.folder, what="validator"):
        assert "Another validator is at work" in box.upgrade()["message"]
    failed = box.upgrade()
    assert failed["code"] == "rolled_back"
    expected = (
        f"{__version__} is in its place again, and the ledger is as it was. The upgrade failed: The doctor of {BAD}"
    )
    assert failed["message"].startswith(expected)
    assert "misses what was there before: versions" in failed["message"]
    assert box.state() == was

    (source / "gradients" / "doctor" / "software.py").write_text(WITHOUT_INDEX)
    half = box.upgrade()
    assert half["code"] == "half_back"
    assert "back as before: the package, the ledger; still to be put back: the other packages (" in half["message"]
    assert "pip install --no-deps -r " in half["fix"]
    assert box.state() == (was[0], "2", was[2])


def test_a_checkout_moves_to_what_its_branch_follows_and_back(box: Box, source: Path) -> None:
    def git(folder: Path, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        run = box.run("git", "-C", str(folder), *who, *arguments)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    git(source, "init", "--quiet")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "-m", "first")
    checkout = box.home / "checkout"
    git(box.home, "clone", "--quiet", str(source), str(checkout))
    box.install("--editable", str(checkout))

    become(source, GOOD)
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "-m", "good")
    upgraded = box.upgrade()
    assert upgraded["installed"] == GOOD
    assert upgraded["was"].startswith(f"{__version__} (commit ")
    assert box.state() == (GOOD, "1", "7701_more")
    assert box.gradients("restore", upgraded["backup"], "--check").returncode == 0
    good = git(checkout, "rev-parse", "HEAD")
    assert good == git(source, "rev-parse", "HEAD")

    become(source, BAD, ENDED)
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "-m", "bad")
    interrupted = box.upgrade()
    assert (interrupted["code"], "it was interrupted" in interrupted["message"]) == ("rolled_back", True)
    assert box.state() == (GOOD, "1", "7701_more")
    assert (git(checkout, "rev-parse", "HEAD"), git(checkout, "symbolic-ref", "--short", "HEAD")) == (good, "main")

    (checkout / "miner" / "README.md").write_text("mine")
    refused = box.gradients("upgrade", "--check", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["code"] == "in_checkout"
    assert "has changes of its own: miner/README.md" in json.loads(refused.stdout)["why_not"]


def test_an_index_that_has_no_version_is_told_from_one_that_has(box: Box, source: Path) -> None:
    """Installed from the index (no folder is noted), so that is where a newer one is looked for."""
    build = "import sys; sys.path.insert(0, sys.argv[1]); import backend; backend.build_wheel(sys.argv[2])"

    def wheel() -> None:
        assert box.run(sys.executable, "-c", build, str(source), str(box.home / "index")).returncode == 0

    wheel()
    box.install(f"gradients-subnet=={__version__}")
    become(source, GOOD)
    wheel()
    shown = json.loads(box.gradients("upgrade", "--check", "--json").stdout)
    assert (shown["installed"], shown["would_install"]) == (__version__, GOOD)
    assert box.upgrade("--to", "77.9")["code"] == "no_source"
    for file in (box.home / "index").glob("gradients_subnet-*"):
        file.unlink()
    refused = box.upgrade()
    assert (refused["code"], "--from a folder, a wheel or a git+ URL" in refused["fix"]) == ("index", True)
