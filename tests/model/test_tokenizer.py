"""Tokens are CLIP's: ids known from its release."""

from __future__ import annotations

from model.tokenizer import clip_tokenizer


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
