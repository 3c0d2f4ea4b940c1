"""Where a prompt names the person: the class noun, whose token PhotoMaker repeats, one for each token of the face."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class Halves(NamedTuple):
    """A prompt up to and with its class noun, and what follows. The trigger word, which would stand between them, is in neither."""

    before: str
    after: str

    @property
    def text_only(self) -> str:
        """The prompt of the first steps, which know nothing of the face."""
        return self.before + self.after


class Tokens(NamedTuple):
    """`ids`: of the prompt, padded; `first`: place of the first of the class noun's tokens."""

    ids: list[int]
    first: int


def halves(prompt: str, trigger: str, nouns: Sequence[str]) -> Halves:
    """Splits at the trigger word, or, in a prompt without it, after the first class noun.

    Raises:
        ValueError: there is no such place, or the trigger word stands there twice or follows no word.
    """
    places = list(re.finditer(rf"(?<!\S){re.escape(trigger)}(?!\w)", prompt))
    if len(places) > 1:
        raise ValueError(
            f"the trigger word {trigger!r} stands in the prompt {len(places)} times; once is what it can be"
        )
    if places:
        before = prompt[: places[0].start()].rstrip()
        if not re.search(r"\w$", before):
            raise ValueError(f"the trigger word {trigger!r} follows no class noun, such as man or woman")
        return Halves(before, prompt[places[0].end() :])
    noun = re.search(rf"\b(?:{'|'.join(map(re.escape, nouns))})\b", prompt, re.IGNORECASE)
    if noun is None:
        raise ValueError(f"the prompt has no class noun for the face to stand in: {', '.join(nouns)}")
    return Halves(prompt[: noun.end()], prompt[noun.end() :])


def repeated(tokenizer: CLIPTokenizer, prompt: Halves, count: int) -> Tokens:
    """The prompt with the class noun's (last) token `count` times.

    As the authors cut it: what is too long, to the tokenizer's length with the trigger word in it and with an end token; then the
    trigger word goes, the noun's token is repeated, and what is again too long is cut, of more than two tokens without an end token.

    Raises:
        ValueError: the class noun lies beyond what the text encoder sees.
    """
    before, after = (tokenizer(part, add_special_tokens=False, verbose=False).input_ids for part in prompt)
    first, limit = len(before), tokenizer.model_max_length  # the start token stands before them
    room = limit - 3 - first  # beside the start token, the trigger word and the end token
    if room < 0 or first + count > limit:
        raise ValueError(
            f"the class noun lies beyond the {limit} tokens that the text encoder sees; write a shorter prompt"
        )
    repeats = [before[-1]] * count
    ids = [tokenizer.bos_token_id, *before[:-1], *repeats, *after[:room], tokenizer.eos_token_id][:limit]
    return Tokens(ids + [tokenizer.pad_token_id] * (limit - len(ids)), first)
