"""CLIP's tokenizer from its published vocabulary file, for models without one of their own; what it cuts of a prompt."""

from __future__ import annotations

import gzip
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = 49152 - 256 - 2  # what CLIP uses of the file; the rest of it is unused
START, END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(vocabulary: Path) -> CLIPTokenizer:
    """`vocabulary`: bpe_simple_vocab_16e6.txt.gz of the CLIP release. 49,408 tokens, 77 a prompt."""
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
    letters = list(bytes_to_unicode().values())  # of every byte, those that print first
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    ids = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=77)


def truncated_words(tokenizer: CLIPTokenizer, prompt: str) -> str:
    """The end of `prompt` that the model does not see, as it was written: what is beyond its 77 tokens. "": all is seen.

    It may begin inside a word.
    """
    encoded = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    last = tokenizer.model_max_length - 1  # the end token takes this place
    if len(encoded.input_ids) <= last + 1:
        return ""
    return prompt[encoded.offset_mapping[last][0] :].strip()
