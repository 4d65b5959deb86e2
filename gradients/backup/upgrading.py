"""Another version in the place of this one, step by step, and all of it taken back when one of the steps fails.

Covers: pip, git, migration or doctor that fail, hang or are interrupted (Ctrl-C, SIGTERM, SIGHUP), each step back being tried whatever
became of the others; and what is said afterwards is what was done. Does not cover: kill -9 and power cuts, after which the backup holds
everything that docs/operators.md puts back by hand. All that going back needs is imported here, before other files are in its place.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from sqlalchemy.engine import make_url

from gradients.backup import databases, own_files, packages
from gradients.backup.kept import Kept
from gradients.backup.making import make
from gradients.backup.manifest import DATABASE
from gradients.backup.sources import Source
from gradients.clock import Clock
from gradients.config import environment_without
from gradients.errors import OperatorError
from gradients.extras import DISTRIBUTION
from gradients.files.locks import only_one
from gradients.files.whole import write_text

OWN, PACKAGES = "package", "packages.txt"  # in the backup
_STEP_SECONDS = 600.0  # of the new version, for a migration or a doctor


@dataclass(frozen=True, slots=True)
class _Undo:
    """One step back."""

    what: str
    undo: Callable[[], object]
    by_hand: str


@dataclass
class Upgrade:
    """Of a daemon that is stopped, from the version `now` to `source`."""

    kept: Kept
    settings: Path | None
    source: Source
    now: str
    backup: Path  # a folder to make
    _way_back: list[_Undo] = field(default_factory=list)

    def run(self, clock: Clock) -> str:
        """Back up, install, migrate, ask the new doctor; the version that is installed now.

        Raises SetupError while the daemon runs and OperatorError (no_doctor) when its doctor can't look, both before anything is changed;
        later OperatorError: rolled_back when everything is as it was, half_back when it is not, with what to do by hand.
        """
        with only_one(self.kept.folder, what=self.kept.role):  # held to the end: nobody starts between two versions
            self._give(self.kept.folder / ".lock")
            before = self._missing()
            is_first = not self.backup.parent.exists()
            make(self.kept, self.backup, clock, settings=self.settings, whole=False)
            if is_first:
                self._give(self.backup.parent)
            kept, others = own_files.keep(self.backup / OWN), packages.frozen()
            write_text(self.backup / PACKAGES, others, mode=0o600)
            try:
                with _on_signals(_interrupted):
                    return self._change(before, kept, others)
            except BaseException as error:
                with _on_signals(signal.SIG_IGN):
                    raise self._gone_back(error) from error

    def _change(self, before: set[str], kept: own_files.Kept, others: str) -> str:
        """Each step, with its way back laid before it. What comes back is held here: others may be able to write to the backup."""
        python, own = shlex.quote(sys.executable), shlex.quote(f"{self.backup / OWN}/.")
        if (move := self.source.move) is not None:
            by_hand = f"git -C {shlex.quote(str(move.folder))} reset --keep {move.before}"
            self._lay("the checkout", move.back, by_hand)
            move.forth()
        by_hand = f"{python} -m pip install --no-deps -r {shlex.quote(str(self.backup / PACKAGES))}"
        self._lay("the other packages", partial(packages.put_back, others), by_hand)
        by_hand = f"{python} -m pip uninstall -y {DISTRIBUTION}; cp -a {own} {shlex.quote(sys.prefix)}"
        self._lay("the package", partial(own_files.put_back, kept), by_hand)
        packages.install(self.source.asked, self.source.constraints)
        if (url := self.kept.database) is not None:
            ledger, copy = make_url(url).render_as_string(), self.backup / DATABASE
            self._lay("the ledger", partial(databases.put_back, copy, url), f"put {copy} into the place of {ledger}")
            self._run("migrate")
        if worse := sorted(self._missing() - before):
            raise OperatorError(f"The doctor of {self.source.said} misses what was there before: {', '.join(worse)}")
        return self._gradients("--version").stdout.strip()

    def _lay(self, what: str, undo: Callable[[], object], by_hand: str) -> None:
        self._way_back.append(_Undo(what, undo, by_hand))

    def _gone_back(self, error: BaseException) -> OperatorError:
        """Every step that was begun, taken back, the ledger last: what does it are the old modules again. What to raise then."""
        why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        back, failed = list[str](), list[tuple[_Undo, Exception]]()
        for step in self._way_back:
            try:
                step.undo()
                back.append(step.what)
            except Exception as hindrance:  # whatever it is, the other steps are taken
                failed.append((step, hindrance))
        if not failed:
            ledger = (
                ", and the ledger is as it was" if any(step.what == "the ledger" for step in self._way_back) else ""
            )
            return OperatorError(
                f"{self.now} is in its place again{ledger}. The upgrade failed: {why}",
                code="rolled_back",
                fix=f"The backup is {self.backup}",
            )
        lacking = "; ".join(f"{step.what} ({hindrance})" for step, hindrance in failed)
        there = f"back as before: {', '.join(back)}; " if back else ""
        return OperatorError(
            f"The upgrade failed ({why}), and going back did too; {there}still to be put back: {lacking}",
            code="half_back",
            fix=f"By hand, before the {self.kept.role} is started: {'; '.join(step.by_hand for step, _ in failed)}",
        )

    def _missing(self) -> set[str]:
        """What the installed version's doctor says is missing, by name: words hold numbers that change. Raises no_doctor."""
        run = self._run("doctor", "--json", may_fail=True)
        try:
            return {str(each["name"]) for each in json.loads(run.stdout) if each["level"] == "missing"}
        except (ValueError, TypeError, KeyError) as error:
            raise OperatorError(f"The doctor could not look: {_end(run.stderr)}", code="no_doctor") from error

    def _run(self, command: str, *options: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
        """A command of the daemon's, of the version that is installed now."""
        named = ["--folder", str(self.kept.folder), *(["--config", str(self.settings)] if self.settings else [])]
        run = self._gradients(self.kept.role, command, *options, *named)
        if run.returncode and not may_fail:
            raise OperatorError(f"`gradients {self.kept.role} {command}` failed: {_end(run.stderr)}")
        return run

    def _give(self, made: Path) -> None:
        """Have what was made here be the daemon's, not root's, whose work it may be."""
        owner = self.kept.folder.stat()
        if os.geteuid() == 0:
            os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _gradients(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In a process of its own, as the user whose daemon it is: root may have installed it, and shall own none of its files."""
        owner, environment = self.kept.folder.stat(), environment_without()
        user, group = None, None
        if os.geteuid() == 0 and owner.st_uid != 0:
            user, group = owner.st_uid, owner.st_gid
            with suppress(KeyError):  # a user without a name
                environment["HOME"] = pwd.getpwuid(user).pw_dir  # where its wallet is
        command = [
            sys.executable,
            "-P",
            "-m",
            "gradients.cli",
            *arguments,
        ]  # -P: not what lies in the working directory
        try:
            return subprocess.run(  # noqa: S603 (our own)
                command,
                env=environment,
                user=user,
                group=group,
                extra_groups=None if user is None else (),
                capture_output=True,
                text=True,
                check=False,
                timeout=_STEP_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            said = f"`gradients {' '.join(arguments[:2])}` took longer than {_STEP_SECONDS:.0f} s"
            raise OperatorError(said, code="no_doctor") from error
        except OSError as error:
            fix = "Is this environment where the daemon's user can reach it?"
            raise OperatorError(
                f"{sys.executable} cannot be run: {error.strerror}", code="no_doctor", fix=fix
            ) from error


def _end(text: str) -> str:
    return text[-400:].strip()


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _on_signals(act: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """What comes of being told to end, in the body; children are born with it where it is to be ignored."""
    were = {each: signal.signal(each, act) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in were.items():
            signal.signal(each, handler)
