"""Command lines that documents show, read by the command line's own parser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, cast

import typer

from gradients.cli.main import SUBCOMMANDS, build

BLOCKS = re.compile(r"^```\w*\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
CALLS = re.compile(r"^(?:\.venv/bin/|\$ )?(gradients [a-z].*)$", flags=re.MULTILINE)
INLINE = re.compile(r"`(gradients [a-z][^`]*)`")
PLACEHOLDERS = re.compile(r"<[^<>\n]+>|\$\w+|…")  # <netuid>, $NETUID: any value will do


def whole_calls(text: str) -> list[str]:
    """The lines of code blocks that call `gradients`; continued lines are joined."""
    blocks = [re.sub(r"\s*\\\n\s*", " ", block) for block in BLOCKS.findall(text)]
    calls = [re.sub(r"\s+# .*", "", call) for block in blocks for call in CALLS.findall(block)]
    return [call for call in calls if "  " not in call]  # gaps are of what a command prints


def mentions(text: str) -> list[str]:
    """The calls in running text, which may leave out what a command needs."""
    return [" ".join(call.split()) for call in INLINE.findall(BLOCKS.sub("", text))]


def problem_of_call(call: str) -> str:
    """What the parser says against a call; empty when it is one that runs. Raises nothing."""
    words = shlex.split(PLACEHOLDERS.sub("1", re.split(r"[|;&>]", PLACEHOLDERS.sub("1", call))[0]), comments=True)
    path, command, rest = _found(words)
    if command is None or (getattr(command, "commands", None) and not command.invoke_without_command):
        return f"there is no command {path}"
    try:
        command.make_context(path, list(rest))
    except (typer.Exit, SystemExit):  # --help
        return ""
    except Exception as error:  # whatever a parser or a check of a value says
        return str(error) or type(error).__name__
    return ""


def problem_of_mention(call: str) -> str:
    """The command or the options of a mention that do not exist; empty when all do."""
    words = shlex.split(PLACEHOLDERS.sub("1", call).replace("'", ""))
    path, command, rest = _found(words)
    if command is None:
        return f"there is no command {path}"
    known = {spelling for each in command.params for spelling in (*each.opts, *each.secondary_opts)} | {"--help"}
    unknown = [word for word in rest if re.fullmatch(r"--?[A-Za-z][\w.-]*", word) and word not in known]
    return f"{path} has no {', '.join(unknown)}" if unknown else ""


def _found(words: Sequence[str]) -> tuple[str, Any, Sequence[str]]:  # typer's commands have no public type
    """The command that words begin with, or None, its name, and the words behind it."""
    name = words[1]
    if name not in SUBCOMMANDS:
        return f"gradients {name}", None, ()
    command, at = cast(Any, typer.main.get_command(build([name]))).commands[name], 2
    while at < len(words) and (inner := getattr(command, "commands", {})) and re.fullmatch("[a-z]+", words[at]):
        command, at = inner.get(words[at]), at + 1
    return " ".join(words[:at]), command, words[at:]


def calls_of(text: str) -> Iterator[tuple[str, str]]:
    """Every call of a document with what is wrong with it, if anything is."""
    yield from ((call, problem_of_call(call)) for call in whole_calls(text))
    yield from ((call, problem_of_mention(call)) for call in mentions(text))
