"""What a base's template writes around texts, and these texts as tokens between it: a stranger's text is never a control token.

Covers: special tokens, and other added tokens that stand in the template's own text, spelled out in a prompt, an answer or a system
message: they become tokens of plain text. Does not cover: templates whose marks are plain words, such as "User:"; a text that says the
same says the same. Think blocks and calls of tools stand inside of turns, so answers may write them with their tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from tokenizers import Tokenizer

from gradients.domain.dialogue import Frames, Shape
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.sandbox.templates import layouts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BREAK = "\ufdd0"  # not a character (Unicode 23.7); parts what must not be read as one token, and is taken out before it is read
_INSIDE_OF_TURNS = frozenset(
    f"{left}{name}{right}"
    for name in ("think", "tool_call", "tool_response", "THINK")
    for left, right in (("<", ">"), ("</", ">"), ("[", "]"), ("[/", "]"))
)
_SHOWN_ROWS = 5
_TRIED = (Shape(system=True, exchanges=1), Shape(system=False, exchanges=2))


class Markup:
    """One base's way to write dialogues."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, without_template: str, vocabulary: int | None = None
    ) -> None:
        """Args:
        without_template: how dialogues are written for a base that has no template.
        vocabulary: how many tokens the base tells apart; None when only the tokenizer is known.
        """
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._own = bool(tokenizer.chat_template)
        try:
            self._template = tokenizer.get_chat_template() if self._own else without_template
        except ValueError as error:  # several templates by name, and none for every use
            raise TaskInvalid(
                "The base has several chat templates and none called 'default'",
                code="template_unusable",
                fix="Choose another base",
            ) from error
        self._frames: dict[Shape, Frames] = {}
        # A template writes its first token itself. Where there is none, the tokenizer knows what texts begin with.
        self.begin = "" if self._own else first_token(tokenizer)

    def frames(self, shapes: Iterable[Shape]) -> Mapping[Shape, Frames]:
        """What stands around the turns of dialogues. Raises TaskInvalid when the base's template cannot write them."""
        asked = set(shapes)
        if missing := asked - self._frames.keys():
            names = self._tokenizer.special_tokens_map
            found = layouts(
                self._template,
                missing,
                tokens=tuple((name, str(token)) for name, token in names.items() if isinstance(token, str)),
                whose="The base's chat template",
                instead="choose another base",
            )
            self._frames.update({shape: (self.begun(head), *rest) for shape, (head, *rest) in found.items()})
        return {shape: self._frames[shape] for shape in asked}

    def begun(self, head: str) -> str:
        """What stands before everything else, beginning with the token that a base without a template wants there."""
        return head if head.startswith(self.begin) else self.begin + head

    def end(self, behind: str) -> str:
        """What ends an answer: what the template writes behind it, without the line end, or the base's own end of text.

        Raises TaskInvalid for a base that has neither.
        """
        end = behind.rstrip() or str(self._tokenizer.eos_token or "")
        if not end:
            raise TaskInvalid(
                "The base says nowhere how an answer ends: it has neither an end-of-text token nor a template with one",
                code="base_without_end",
                fix="Choose another base, or name its eos_token in tokenizer_config.json",
            )
        return end

    def plain(self, text: str) -> str:
        """A stranger's text, to be put between frames: what would be a control token in it is parted, so that `tokens` reads it as text."""
        while self._control and self._control.search(text):
            text = self._control.sub(lambda found: found[0][0] + _BREAK + found[0][1:], text)
        return text

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text as tokens; texts without markup of strangers exactly as the base's tokenizer reads them."""
        # Frames hold the special tokens; adding them again would put two at the start.
        clean = [position for position, text in enumerate(texts) if _BREAK not in text]
        read: dict[int, list[int]] = {}
        if clean:
            found = self._tokenizer([texts[i] for i in clean], add_special_tokens=False)["input_ids"]
            read = dict(zip(clean, cast(list[list[int]], found), strict=True))
        return [read[i] if i in read else self._read_parted(text) for i, text in enumerate(texts)]

    def check_known(self, rows: Sequence[Collection[int]]) -> None:
        """Raises DatasetInvalid that names the rows with a token that the base's embedding lacks."""
        if self._vocabulary is None:
            return
        beyond = [row for row, tokens in enumerate(rows, start=1) if tokens and max(tokens) >= self._vocabulary]
        if beyond:
            token = self._tokenizer.convert_ids_to_tokens(max(rows[beyond[0] - 1]))
            shown = ", ".join(map(str, beyond[:_SHOWN_ROWS])) + (" and more" if len(beyond) > _SHOWN_ROWS else "")
            raise DatasetInvalid(
                f"{token!r} in rows {shown} is a token that the base's tokenizer knows and the base itself does not: "
                f"it tells {self._vocabulary:,} tokens apart",
                rows=beyond,
                code="token_unknown",
                fix="Take it out of the rows, or choose a base whose embedding has it",
            )

    @cached_property
    def control(self) -> frozenset[str]:
        """Spellings of tokens that only the template may write."""
        text = "".join(part for frames in self._tried().values() for part in frames)
        return frozenset(
            token.content
            for number, token in self._tokenizer.added_tokens_decoder.items()
            if (token.special or (token.content in text and not token.content.isspace()))
            and token.content not in _INSIDE_OF_TURNS
            and (self._vocabulary is None or number < self._vocabulary)
            and len(token.content) > 1
        )

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        longest_first = sorted(self.control, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def _tried(self) -> Mapping[Shape, Frames]:
        """Frames that show what the template writes; those of one shape when it refuses the other."""
        for shapes in (_TRIED, _TRIED[:1], _TRIED[1:]):
            try:
                return self.frames(shapes)
            except TaskInvalid:
                continue
        return self._frames

    def _read_parted(self, text: str) -> list[int]:
        """A text with breaks. Raises DatasetInvalid for a tokenizer that makes a control token out of plain text all the same."""
        tokens: list[int] = self._parted.encode(text, add_special_tokens=False).ids if self._parted else []
        of_frames = len(self._control.findall(text)) if self._control else 0
        if not self._parted or sum(token in self._control_numbers for token in tokens) > of_frames:
            raise DatasetInvalid(
                f"A text spells out a control token of the base, whose tokenizer cannot read it as text: {text[:80]!r}",
                code="markup_in_text",
                fix=f"Take {', '.join(sorted(self.control))[:200]} out of the rows",
            )
        return tokens

    @cached_property
    def _control_numbers(self) -> frozenset[int]:
        return frozenset(
            number for number, token in self._tokenizer.added_tokens_decoder.items() if token.content in self.control
        )

    @cached_property
    def _parted(self) -> Tokenizer | None:
        """The base's tokenizer, but that it takes breaks out once it has looked for added tokens, and never before."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        whole = json.loads(backend.to_str())
        rest = [whole["normalizer"]] if whole["normalizer"] else []
        without_breaks = {"type": "Replace", "pattern": {"String": _BREAK}, "content": ""}
        whole["normalizer"] = {"type": "Sequence", "normalizers": [without_breaks, *rest]}
        for token in whole["added_tokens"]:
            if token["content"] in self.control:
                token["normalized"] = False
        _forget(whole["model"], self.control)
        return Tokenizer.from_str(json.dumps(whole))


def _forget(model: dict[str, object], spellings: Collection[str]) -> None:
    """Keep a model of words from making control tokens out of plain text; their numbers stay."""
    if model["type"] == "BPE":
        merges = cast(list[str | list[str]], model["merges"])
        model["merges"] = [
            merge for merge in merges if "".join(merge.split(" ") if isinstance(merge, str) else merge) not in spellings
        ]
    elif model["type"] == "Unigram":
        words = cast(list[tuple[str, float]], model["vocab"])
        model["vocab"] = [[word, -1e6 if word in spellings else score] for word, score in words]


def first_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the tokenizer itself begins a text with, as text; nothing where it begins with the text."""
    begin = tokenizer.bos_token_id
    with_special: list[int] = tokenizer("-")["input_ids"]
    return str(tokenizer.bos_token) if begin is not None and with_special[:1] == [begin] else ""
