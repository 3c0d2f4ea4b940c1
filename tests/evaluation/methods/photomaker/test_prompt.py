"""The class noun of a prompt: where it is, how often its token stands there, and what is refused."""

from __future__ import annotations

import pytest

from common.pinned_files.weights import resolve
from evaluation.methods.photomaker.method import NOUNS
from evaluation.methods.photomaker.prompt import halves, repeated
from model.tokenizer import clip_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return clip_tokenizer(resolve("clip-vocabulary").path)


@pytest.mark.parametrize(
    ("prompt", "before", "text_only"),
    [
        ("a photo of a person in the snow", "a photo of a person", "a photo of a person in the snow"),
        ("a photo of a person img in the snow", "a photo of a person", "a photo of a person in the snow"),
        ("a queen img, oil painting of a woman", "a queen", "a queen, oil painting of a woman"),
        ("a MAN with a dog", "a MAN", "a MAN with a dog"),
        ("in Germany, a woman and a man", "in Germany, a woman", "in Germany, a woman and a man"),
    ],
)
def test_the_trigger_word_or_else_the_first_class_noun_splits_a_prompt(prompt, before, text_only):
    found = halves(prompt, "img", NOUNS)
    assert found.before == before and found.text_only == text_only


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a house by the sea", "no class noun.*person, man, woman"),
        ("a man img and a woman img", "2 times"),
        ("img of a man", "follows no class noun"),
        ("portrait, img of a man", "follows no class noun"),
    ],
)
def test_a_prompt_without_one_place_for_the_face_is_refused(prompt, why):
    with pytest.raises(ValueError, match=why):
        halves(prompt, "img", NOUNS)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_class_nouns_token_stands_there_once_for_each_token_of_the_face_and_the_trigger_word_never(
    tokenizer, count
):
    tokens = repeated(tokenizer, halves("a photo of a woman img in the snow", "img", NOUNS), count)
    words = [tokenizer.decode([number]).strip() for number in tokens.ids]
    assert words[1:5] == ["a", "photo", "of", "a"] and words[tokens.first : tokens.first + count] == ["woman"] * count
    assert words[tokens.first + count :][:3] == ["in", "the", "snow"] and words.count("woman") == count
    assert len(tokens.ids) == 77 and tokens.ids[0] == tokenizer.bos_token_id and "img" not in words
    if count == 1:  # nothing but the prompt itself
        assert tokens.ids == tokenizer("a photo of a woman in the snow", padding="max_length").input_ids


@pytest.mark.parametrize(("count", "ended"), [(1, True), (2, True), (3, False)])
def test_what_is_too_long_is_cut_as_the_authors_cut_it(tokenizer, count, ended):
    tokens = repeated(tokenizer, halves("a man " + "in the snow " * 40, "img", NOUNS), count)
    assert len(tokens.ids) == 77 and tokens.first == 2
    assert (tokenizer.eos_token_id in tokens.ids) == ended  # without one the pooled text would be of no prompt at all


def test_it_is_not_cut_before_the_class_noun(tokenizer):
    for words in (73, 74):  # one noun fits, and its trigger word does not
        prompt = halves("snow " * (words - 1) + "man", "img", NOUNS)
        assert repeated(tokenizer, prompt, 1).first == words
    with pytest.raises(ValueError, match="beyond the 77 tokens"):
        repeated(tokenizer, halves("snow " * 74 + "man", "img", NOUNS), 1)
    with pytest.raises(ValueError, match="beyond the 77 tokens"):
        repeated(tokenizer, halves("snow " * 72 + "man", "img", NOUNS), 5)
