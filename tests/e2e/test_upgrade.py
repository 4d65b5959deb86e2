"""`gradients upgrade` in an environment of its own: a newer version that works, one that does not, and a daemon that is at work.

The versions are this one's code with other numbers; the newer ones bring a migration, the last a doctor that finds something missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from contextlib import closing
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
SICK = """
from gradients.doctor.findings import Finding
def software():
    yield Finding("versions", "missing", "planted")
"""


def heads() -> str:
    """The revision that this version's ledgers have."""
    (name,) = MIGRATIONS.glob(f"versions/{HEAD}_*.py")
    found = re.search(r"^revision.*?= \(?[\"'](\w+)[\"']", name.read_text(), flags=re.MULTILINE)
    assert found is not None
    return found[1]


def wheel(folder: Path, version: str, changed: dict[str, str]) -> None:
    """This code as a wheel of another number, with some other files; without models and extras, which no doctor needs."""
    tree = [file for top in ("gradients", "validator", "miner") for file in (ROOT / top).rglob("*") if file.is_file()]
    kept = [file for file in tree if "assets" not in file.parts and file.suffix != ".pyc"]
    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in kept}
    configs = [file for file in (ROOT / "configs").rglob("*") if file.is_file()]
    files |= {
        f"gradients/configs/{file.relative_to(ROOT / 'configs').as_posix()}": file.read_bytes() for file in configs
    }
    files["gradients/__init__.py"] = files["gradients/__init__.py"].replace(__version__.encode(), version.encode())
    about = str(importlib.metadata.distribution("gradients-subnet").read_text("METADATA")).partition("\n\n")[0]
    lines = [
        line
        for line in about.splitlines()
        if "extra ==" not in line and not line.startswith(("Version:", "License-File:"))
    ]
    place = f"gradients_subnet-{version}.dist-info"
    files |= {name: text.encode() for name, text in changed.items()}
    files[f"{place}/METADATA"] = "\n".join([*lines, f"Version: {version}", ""]).encode()
    files[f"{place}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{place}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{place}/RECORD"]).encode()
    with zipfile.ZipFile(folder / f"gradients_subnet-{version}-py3-none-any.whl", "w") as target:
        for name, content in files.items():
            target.writestr(name, content)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip takes for its index."""
    folder = tmp_path_factory.mktemp("wheels")
    place = "validator/ledger/migrations/versions"
    migrations = {f"{place}/7701_more.py": MIGRATION.format(own="7701_more", before=heads())}
    wheel(folder, __version__, {})
    wheel(folder, GOOD, migrations)
    migrations |= {f"{place}/7702_most.py": MIGRATION.format(own="7702_most", before="7701_more")}
    wheel(folder, BAD, {**migrations, "gradients/doctor/software.py": SICK})
    return folder


@pytest.fixture
def gradients(tmp_path: Path, wheels: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, installed from its wheel into an environment of its own over this one's packages."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    paths = dict.fromkeys(
        (sysconfig.get_paths()["purelib"], *(path for path in sys.path if path.endswith("site-packages")))
    )
    (site / "over.pth").write_text("\n".join(paths) + "\n")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GRADIENTS_", "BT_", "PIP_", "PYTHON"))
    }
    here = clean | {
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
    }
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        f"gradients-subnet=={__version__}",
    ]
    subprocess.run(install, env=here, cwd=tmp_path, check=True, timeout=120, capture_output=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "gradients.cli", *arguments]
        return subprocess.run(command, env=here, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    return run


def revision(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return str(ledger.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_a_version_that_works_stays_and_one_that_does_not_leaves_everything_as_it_was(
    gradients: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "val"
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    ledger.customers.issue("first")
    ledger.engine.dispose()
    settings = f'folder = "{folder}"\n[chain]\nnetwork = "ws://127.0.0.1:1"\n[axon]\nport = 0\n[api]\nport = 0\n'
    (folder / "settings.toml").write_text(settings)
    named = ("--folder", str(folder))

    shown = json.loads(gradients("upgrade", "--check", "--json", *named).stdout)
    assert (shown["installed"], shown["newest"], shown["can_upgrade"]) == (__version__, BAD, True)

    with only_one(folder, what="validator"):
        refused = gradients("upgrade", "--to", GOOD, "--yes", *named)
    assert (refused.returncode, "Another validator is at work" in refused.stderr) == (1, True), refused.stderr

    upgraded = gradients("upgrade", "--to", GOOD, "--json", *named)
    assert upgraded.returncode == 0, upgraded.stderr
    assert (gradients("--version").stdout.strip(), revision(folder)) == (GOOD, "7701_more")
    backup = Path(json.loads(upgraded.stdout)["backup"])
    assert gradients("restore", str(backup), "--check").returncode == 0

    failed = gradients("upgrade", "--json", *named)
    error = json.loads(failed.stdout)["error"]
    assert (failed.returncode, error["code"]) == (1, "rolled_back"), failed.stderr
    assert f"The doctor of {BAD} misses what was there before: versions" in error["message"]
    assert (gradients("--version").stdout.strip(), revision(folder)) == (GOOD, "7701_more")
    with closing(sqlite3.connect(folder / "ledger.db")) as rows:
        assert rows.execute("SELECT COUNT(*) FROM api_keys").fetchone() == (1,)


def test_a_checkout_is_told_to_use_git(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from gradients.backup.packages import why_not; print(why_not())"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "This was installed from the checkout in " in run.stdout
    assert "git pull" in run.stdout
