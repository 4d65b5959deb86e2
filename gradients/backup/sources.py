"""What another version is installed from: a folder, a wheel, a repository, pip's index, or another commit of the checkout that runs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gradients.backup import checkouts, packages
from gradients.errors import SetupError
from gradients.extras import DISTRIBUTION

_NAME_ONE = "Name a folder, a wheel or a git+ URL: --from"


@dataclass(frozen=True, slots=True)
class Source:
    """One version, and how pip comes by it."""

    said: str  # for people
    asked: tuple[str, ...]  # what pip is asked for
    constraints: Path | None = None  # exact versions of other packages that it was tested with
    move: checkouts.Move | None = None  # of the checkout that it is
    is_here: bool = False  # nothing to do


def chosen(named: str | None, to: str | None) -> Source:
    """What is to be installed: what is named, or else a newer state of what this was installed from.

    Args:
        named: a folder, a wheel or a git+ URL.
        to: a version of pip's index, for what was installed from there; in a checkout a commit, tag or branch.

    Raises SetupError, with what to do instead, where the version can't be changed or there is nothing of that name, and OutsideError.
    """
    if refusal := packages.why_not():
        raise refusal
    if named is not None and to is not None:
        raise _refusal("--to is for pip's index and for checkouts, not for --from", fix="Leave one of them out")
    if named is not None:
        return of_name(named)
    origin = packages.origin()
    if origin is not None and origin.is_editable:
        return _of_checkout(checkouts.move(_folder(origin.url), to))
    if origin is None:
        return _of_index(to)
    if to is not None:  # an index may have something of a stranger's under our name
        raise _refusal(
            f"This was installed from {origin.url}, and --to names a version of pip's index or of a checkout"
        )
    if origin.vcs_info is not None:
        revision = origin.vcs_info.get("requested_revision")
        return of_name(f"{origin.vcs_info['vcs']}+{origin.url}{f'@{revision}' if revision else ''}")
    if origin.dir_info is not None:
        return of_name(str(_folder(origin.url)))
    raise _refusal(f"This was installed from the file {origin.url}, which holds no newer version")


def of_name(text: str) -> Source:
    """What a folder, a wheel or a git+ URL holds. Raises SetupError (no_source) when that is not this package."""
    if text.startswith("git+"):
        return Source(text, (text,))
    place = Path(text).expanduser().absolute()
    if place.suffix == ".whl" and place.is_file():
        if not (found := re.match(r"gradients_subnet-([^-]+)-", place.name)):
            raise _refusal(f"{place} is not a wheel of {DISTRIBUTION}")
        return Source(f"{found[1]} ({place})", (str(place),))
    project = place / "pyproject.toml"
    if not project.is_file():
        raise _refusal(f"There is no folder of {DISTRIBUTION} and no wheel at {place}")
    try:
        name = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise _refusal(f"{project} cannot be read: {error}") from error
    if name != DISTRIBUTION:
        raise _refusal(f"{place} holds {name}, not {DISTRIBUTION}")
    version = checkouts.version_in((place / "gradients" / "__init__.py").read_text(encoding="utf-8"))
    return Source(f"{version} ({place})", (str(place),), _constraints(place))


def _of_checkout(move: checkouts.Move) -> Source:
    return Source(
        f"{move.version} (commit {move.after[:10]})",
        ("--editable", str(move.folder)),
        _constraints(move.folder),
        move,
        is_here=move.before == move.after,
    )


def _of_index(to: str | None) -> Source:
    versions = packages.available()
    wanted = to or versions[0]
    if wanted not in versions:
        raise SetupError(
            f"pip's index has no version {wanted}", code="no_source", fix=f"Name one of {', '.join(versions[:8])}"
        )
    return Source(wanted, (f"{DISTRIBUTION}=={wanted}",), is_here=wanted == packages.installed())


def _constraints(folder: Path) -> Path | None:
    """The file of a checkout, as README.md installs it."""
    return file if (file := folder / "constraints.txt").is_file() else None


def _folder(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _refusal(found: str, *, fix: str = _NAME_ONE) -> SetupError:
    return SetupError(found, code="no_source", fix=fix)
