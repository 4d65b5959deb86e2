"""Answers of base and submission side by side, in the format that chat tasks train in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gradients.domain.json import JsonObject
from gradients.ml.dialogue import family_template
from gradients.ml.text import ChatFormat
from gradients.tasks.workers.generation import generate_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def generate(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """As gradients.tasks.workers.generation does; a base without a template is asked as its family is."""

    def chat_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
        return ChatFormat(tokenizer, without_template=family_template(tokenizer))

    return generate_in(chat_format, arguments, report)
