"""The chat format of the model: its special tokens, its template, and how pretraining text is put in it."""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, TURN, END_OF_TURN)

# The generation markers make `apply_chat_template(return_assistant_tokens_mask=True)` and TRL's assistant_only_loss work.
# Role and text of other turns stand outside of them; the end of the assistant's turn is inside, as it must be learnt.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|im_end|>' -}}"
    "{%- endif -%}"
    "{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def exchange(question: str, answer: str, *, system: str = "") -> str:
    """One question and its answer as the chat template renders them."""
    turns = [("system", system)] if system else []
    turns += [("user", question), ("assistant", answer)]
    return "".join(f"{TURN}{role}\n{text}{END_OF_TURN}\n" for role, text in turns)
