"""How a chat template lays dialogues out: found out in a process that can be killed, and without a word of any row.

Templates are programs: a customer writes one, or names a base of a hub that brings one. Covers: a template that runs for ever, eats
memory, writes without end, or reaches for Python's insides (jinja2's immutable sandbox, in a process with limits on processor time, memory
and files, without our environment). The template sees marks instead of turns, so it can neither read nor change what is said. It finds
what transformers gives templates, but for the date: `strftime_now` knows one day, so that a row has the same tokens tomorrow. Does not
cover: a hole in both jinja2's sandbox and the kernel's limits.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradients
from gradients.domain.dialogue import BEGIN_OF_TEXT, END_OF_TEXT, Frames, Messages, Shape, frames
from gradients.errors import TaskInvalid

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

LAYOUT_SECONDS = 20  # of processor time, for all shapes together
LAYOUT_BYTES = 512 * 1024**2
LONGEST_LAYOUT = 200_000  # characters around the turns of one dialogue
TODAY = datetime(2026, 1, 1)
ANY_BASE = (("bos_token", BEGIN_OF_TEXT), ("eos_token", END_OF_TEXT))  # a customer's template, before the base is known
_PATIENCE = 10  # wall time over processor time: a busy machine must not turn a good template into a bad one
_EXIT_REFUSED = 4
_FIX = "Try it with transformers' apply_chat_template, or {instead}"


def layouts(
    template: str,
    shapes: Collection[Shape],
    *,
    tokens: Collection[tuple[str, str]] = ANY_BASE,
    whose: str = "parameters.template",
    instead: str = "leave it out to take the base's own",
    seconds: int = LAYOUT_SECONDS,
) -> Mapping[Shape, Frames]:
    """The frames of each shape of dialogue. Raises TaskInvalid for a template that cannot be used.

    Args:
        tokens: name -> text of the special tokens that the template may write, such as bos_token.
        whose: how messages call the template.
        instead: what its owner may do instead of mending it, for messages.
        seconds: processor time after which the process is killed.
    """
    return dict(_layouts(template, tuple(sorted(set(shapes))), tuple(tokens), whose, instead, seconds))


def environment() -> ImmutableSandboxedEnvironment:
    """What transformers renders chat templates in (utils/chat_template_utils.py of 5.23), with one day for all times."""
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock, Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """{% generation %} marks what the assistant says; nothing is done with it here."""

        tags = {"generation"}  # noqa: RUF012 (jinja2's own way)

        def parse(self, parser: Parser) -> Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

        def _as_it_is(self, caller: Any) -> str:  # noqa: ANN401 (a macro of jinja2)
            return str(caller())

    class PublicNamespace(Namespace):
        """A namespace whose names don't begin with an underscore: those are Python's insides."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (so that namespace(self=…) works, as in jinja2)
            self, *values = args
            names = dict(*values, **kwargs)
            for name in names:
                PublicNamespace._check(name)
            Namespace.__init__(self, names)

        def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401 (whatever the template puts there)
            PublicNamespace._check(name)
            Namespace.__setitem__(self, name, value)

        @staticmethod
        def _check(name: object) -> None:
            if isinstance(name, str) and name.startswith("_"):
                raise SecurityError(f"a namespace cannot hold {name!r}")

    class Dict:
        """`dict` without the attributes of the class."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401 (a template's own values)
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:  # noqa: ANN401 (likewise)
            return dict.fromkeys(*args)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def as_json(
        value: Any,  # noqa: ANN401 (whatever the template has)
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = as_json
    made.globals |= {
        "raise_exception": refuse,
        "strftime_now": TODAY.strftime,
        "dict": Dict(),
        "namespace": PublicNamespace,
    }
    return made


@lru_cache(maxsize=64)  # the same base is asked again and again in one worker
def _layouts(
    template: str,
    shapes: tuple[Shape, ...],
    tokens: tuple[tuple[str, str], ...],
    whose: str,
    instead: str,
    seconds: int,
) -> tuple[tuple[Shape, Frames], ...]:
    def refused(problem: str) -> TaskInvalid:
        return TaskInvalid(f"{whose} {problem}", code="template_unusable", fix=_FIX.format(instead=instead))

    asked = json.dumps({"template": template, "shapes": shapes, "tokens": dict(tokens), "seconds": seconds})
    with tempfile.TemporaryDirectory(prefix="gradients-template-") as folder:
        try:
            run = subprocess.run(  # noqa: S603 (our own module; the template goes in by standard input)
                [sys.executable, "-m", __name__],
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(Path(gradients.__file__).parents[1])},
                cwd=folder,
                input=asked,
                capture_output=True,
                encoding="utf-8",
                timeout=seconds * _PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise refused(f"takes more than {seconds:g} s") from error
    if run.returncode == _EXIT_REFUSED:
        raise refused(f"cannot be used: {run.stderr.strip()[:300].rstrip('.')}")
    if run.returncode:
        raise refused("needs more time or memory than it may have")
    return tuple((shape, tuple(found)) for shape, found in zip(shapes, json.loads(run.stdout), strict=True))


def _main() -> int:
    """The child: {"template", "shapes", "tokens", "seconds"} in, the frames of each shape out."""
    from jinja2 import TemplateError

    asked = json.load(sys.stdin)
    for kind, most in (
        (resource.RLIMIT_AS, LAYOUT_BYTES),
        (resource.RLIMIT_CPU, asked["seconds"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        within = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (within, within))
    try:
        found = _lay_out(asked["template"], [Shape(*shape) for shape in asked["shapes"]], asked["tokens"])
    except (TaskInvalid, TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (the parent reads it)
        return _EXIT_REFUSED
    json.dump(found, sys.stdout)
    return 0


def _lay_out(template: str, shapes: list[Shape], tokens: Mapping[str, str]) -> list[Frames]:
    from jinja2 import TemplateError

    def render(messages: Messages, *, add_generation_prompt: bool) -> str:
        try:
            text = compiled.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=add_generation_prompt, **tokens
            )
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise TaskInvalid(str(error)) from error
        if len(text) > LONGEST_LAYOUT:
            raise TaskInvalid(f"it writes more than {LONGEST_LAYOUT:,} characters around the turns of one dialogue")
        return text

    def of(shape: Shape) -> Frames:
        try:
            return frames(render, shape)
        except TaskInvalid as error:
            raise TaskInvalid(f"{error.message.rstrip('.')} (a dialogue of {shape})") from error

    compiled = environment().from_string(template)
    return [of(shape) for shape in shapes]


if __name__ == "__main__":
    sys.exit(_main())
