"""How a customer's own chat template lays dialogues out: found out in a process that can be killed, and without a word of any row.

Covers: a template that runs for ever, eats memory, or reaches for Python's insides (jinja2's immutable sandbox, in a process with limits on
time, memory and files, without our environment). The template sees marks instead of turns, so it can neither read nor change what is
said. Does not cover: a hole in both the sandbox and the kernel's limits.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import gradients
from gradients.domain.dialogue import BEGIN_OF_TEXT, END_OF_TEXT, Frames, Messages, Shape, frames
from gradients.errors import TaskInvalid

LAYOUT_SECONDS = 20
LAYOUT_BYTES = 512 * 1024**2
LONGEST_LAYOUT = 200_000  # characters around the turns of one dialogue
_EXIT_REFUSED = 4
_FIX = "Try it with transformers' apply_chat_template, or leave it out to take the base's own"


def frames_of(template: str, shapes: Collection[Shape], *, seconds: float = LAYOUT_SECONDS) -> Mapping[Shape, Frames]:
    """The frames of each shape of dialogue. Raises TaskInvalid for a template that cannot be used.

    Args:
        seconds: wall time after which the process is killed.
    """
    order = sorted(shapes)
    asked = json.dumps({"template": template, "shapes": order})
    with tempfile.TemporaryDirectory(prefix="gradients-template-") as folder:
        try:
            run = subprocess.run(  # noqa: S603 (our own module; the template goes in by standard input)
                [sys.executable, "-m", __name__],
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(Path(gradients.__file__).parents[1])},
                cwd=folder,
                input=asked,
                capture_output=True,
                encoding="utf-8",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _refused(f"takes more than {seconds:g} s") from error
    if run.returncode == _EXIT_REFUSED:
        raise _refused(f"cannot be used: {run.stderr.strip()[:300].rstrip('.')}")
    if run.returncode:
        raise _refused("needs more time or memory than it may have")
    return {shape: tuple(found) for shape, found in zip(order, json.loads(run.stdout), strict=True)}


def _refused(problem: str) -> TaskInvalid:
    return TaskInvalid(f"parameters.template {problem}", code="template_unusable", fix=_FIX)


def _main() -> int:
    """The child: {"template", "shapes"} in, the frames of each shape out."""
    from jinja2 import TemplateError

    for kind, most in (
        (resource.RLIMIT_AS, LAYOUT_BYTES),
        (resource.RLIMIT_CPU, LAYOUT_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    asked = json.load(sys.stdin)
    try:
        found = _lay_out(asked["template"], [Shape(*shape) for shape in asked["shapes"]])
    except (TaskInvalid, TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (the parent reads it)
        return _EXIT_REFUSED
    json.dump(found, sys.stdout)
    return 0


def _lay_out(template: str, shapes: list[Shape]) -> list[Frames]:
    """With the settings that transformers renders chat templates with."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def render(messages: Messages) -> str:
        try:
            text = compiled.render(
                messages=messages, bos_token=BEGIN_OF_TEXT, eos_token=END_OF_TEXT, add_generation_prompt=False
            )
        except TemplateError as error:
            raise TaskInvalid(str(error)) from error
        if len(text) > LONGEST_LAYOUT:
            raise TaskInvalid(f"it writes more than {LONGEST_LAYOUT:,} characters around the turns of one dialogue")
        return text

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals["raise_exception"] = refuse
    compiled = environment.from_string(template)
    return [frames(render, shape) for shape in shapes]


if __name__ == "__main__":
    sys.exit(_main())
