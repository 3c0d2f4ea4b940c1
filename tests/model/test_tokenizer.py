"""Tokens are CLIP's: ids known from its release; what is beyond 77 of them is told as it was written."""

from __future__ import annotations

import pytest

from model.tokenizer import clip_tokenizer, truncated_words


def test_ids_are_those_of_the_release(vocabulary):
    tokenizer = clip_tokenizer(vocabulary)
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = tokenizer(["hello"], padding="max_length", truncation=True, max_length=77).input_ids[0]
    assert len(padded) == 77 and padded[3:] == [49407] * 74


def test_case_and_spaces_do_not_count_and_any_script_has_tokens(vocabulary):
    tokenizer = clip_tokenizer(vocabulary)
    assert tokenizer("A  Photo").input_ids == tokenizer("a photo").input_ids
    assert tokenizer.decode(tokenizer("café 漢字").input_ids, skip_special_tokens=True).strip() == "café 漢字"


@pytest.mark.parametrize(
    ("prompt", "lost"),
    [
        ("", ""),
        ("a " * 75, ""),
        ("a " * 75 + "Café's  (HAT)", "Café's  (HAT)"),
        ("a " * 74 + "red hat", "hat"),
        ("漢字" * 60, "漢字" * 45),
    ],
)
def test_what_a_prompt_has_beyond_77_tokens_is_told_as_it_was_written(vocabulary, prompt, lost):
    assert truncated_words(clip_tokenizer(vocabulary), prompt) == lost
