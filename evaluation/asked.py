"""What was asked of every method: prompts and seeds, frozen by one hash before anything is drawn, kept in OUT/asked.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from common.hashing import canonical_json, sha256_of_bytes
from common.storage import Storage
from evaluation.sets import Method, SetError

NAME = "asked.json"


class Prompt(NamedTuple):
    """`name`: what pictures are filed under; `category`: what it asks to change, "" where the file has none."""

    name: str
    words: str
    category: str = ""


@dataclass(frozen=True)
class Asked:
    """Prompts in their order, and seeds."""

    prompts: tuple[Prompt, ...]
    seeds: tuple[str, ...]

    @property
    def hash(self) -> str:
        """12 hex digits: equal ones mean the same prompts, in the same order, and the same seeds."""
        return sha256_of_bytes(canonical_json([self.prompts, self.seeds]).encode())[:12]

    @property
    def words(self) -> dict[str, str]:
        return {prompt.name: prompt.words for prompt in self.prompts}

    def __str__(self) -> str:
        categories = Counter(prompt.category for prompt in self.prompts if prompt.category)
        kinds = f" ({', '.join(f'{number} {name}' for name, number in categories.items())})" if categories else ""
        return f"{self.hash}, {len(self.prompts)} prompts{kinds} x {len(self.seeds)} seeds"


def read_prompts(file: Path) -> tuple[Prompt, ...]:
    """The prompts of a YAML file: `NAME: words`, or several of these under `CATEGORY:`.

    Raises:
        SetError: it cannot be read as such.
    """
    try:
        told = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SetError(f"--prompts {file}: cannot be read: {str(error).splitlines()[0]}") from error
    prompts: list[Prompt] = []
    for name, value in told.items() if isinstance(told, dict) else ():
        under = value.items() if isinstance(value, dict) else [(name, value)]
        category = str(name) if isinstance(value, dict) else ""
        prompts += (Prompt(str(key), words, category) for key, words in under)
    if not prompts or not all(isinstance(prompt.words, str) and prompt.words.strip() for prompt in prompts):
        raise SetError(f"--prompts {file}: holds no prompts: write a line `NAME: words` for each")
    if twice := [name for name, number in Counter(prompt.name for prompt in prompts).items() if number > 1]:
        raise SetError(f"--prompts {file}: two prompts are called {twice[0]}: rename one")
    return tuple(prompt._replace(words=" ".join(prompt.words.split())) for prompt in prompts)


def freeze(asked: Asked, out: Storage) -> None:
    """Keep it in `out`, before anything is drawn.

    Raises:
        SetError: another is kept there.
    """
    require_same(asked, out)
    if out.exists(NAME):
        return
    told = {"hash": asked.hash, "prompts": [list(prompt) for prompt in asked.prompts], "seeds": list(asked.seeds)}
    out.write_json(NAME, told)


def require_same(asked: Asked, out: Storage) -> None:
    """Raises SetError: something else is frozen in `out`."""
    before = frozen(out)
    if before is not None and before != asked:
        raise SetError(
            f"{out.root}: its prompts and seeds are frozen as {before.hash}, and these are {asked.hash} "
            f"({_difference(before, asked)}): take another --out, or give the frozen ones"
        )


def frozen(out: Storage) -> Asked | None:
    """What is kept in `out`; None where nothing is.

    Raises:
        SetError: it was changed by hand.
    """
    if not out.exists(NAME):
        return None
    told = out.read_json(NAME, ["hash", "prompts", "seeds"])
    asked = Asked(tuple(Prompt(*row) for row in told["prompts"]), tuple(told["seeds"]))
    if asked.hash != told["hash"]:
        raise SetError(
            f"{out.url(NAME)}: was changed after it was frozen ({told['hash']}, now {asked.hash}): restore it"
        )
    return asked


def facts(methods: Sequence[Method], kept: Asked | None, given: Iterable[Prompt]) -> list[str]:
    """What stands in the head of a table: the hash, and whether the pictures are what was asked for.

    `kept`: frozen before they were drawn; `given`: the prompts that this table was made with.
    """
    drawn = {item.prompt: item.words for method in methods for item in method.drawn if item.prompt}
    seeds = sorted({item.seed for method in methods for item in method.drawn if item.seed})
    given = tuple(given)
    if kept is None:
        categories = {prompt.name: prompt.category for prompt in given}
        found = tuple(Prompt(name, words, categories.get(name, "")) for name, words in sorted(drawn.items()))
        return [f"prompts and seeds {Asked(found, tuple(seeds))}, as found: not frozen before the pictures were drawn"]
    lines = [f"prompts and seeds {kept}, frozen before the pictures were drawn"]
    if given and given != kept.prompts:
        lines.append(f"CHANGED since they were frozen: {_difference(kept, Asked(given, kept.seeds))}")
    known = {*kept.words, *kept.words.values()}
    if strange := sorted(set(drawn) - known):
        lines.append(f"NOT among the frozen prompts: {len(strange):,} of the pictures' prompts, e.g. {strange[0]}")
    return lines


def _difference(before: Asked, now: Asked) -> str:
    changed = sorted(name for name, words in now.words.items() if before.words.get(name, words) != words)
    new, gone = sorted(set(now.words) - set(before.words)), sorted(set(before.words) - set(now.words))
    lists = {"other words": changed, "new": new, "gone": gone}
    said = [f"{what}: {', '.join(names[:3])}{', ...' if names[3:] else ''}" for what, names in lists.items() if names]
    if before.seeds != now.seeds:
        said.append(f"seeds {', '.join(before.seeds)}, now {', '.join(now.seeds)}")
    return "; ".join(said) or "another order or category"
