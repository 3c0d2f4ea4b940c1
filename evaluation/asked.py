"""What was asked of every method: prompts and seeds, frozen by one hash before anything is drawn, kept in OUT/asked.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from common.hashing import canonical_json, sha256_of_bytes
from common.storage import Storage
from evaluation.sets import ONE, Method, SetError
from generation.names import folded

NAME = "asked.json"
TEXT = "tag:yaml.org,2002:str"


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
        SetError: it cannot be read as such, with the line.
    """
    lines: dict[str, int] = {}
    prompts = []
    for name, words, category in _nodes(file):
        line = name.start_mark.line + 1
        prompt = _prompt(name, words, category, f"{file}, line {line}")
        if (same := folded(prompt.name)) in lines:
            raise SetError(
                f"{file}, line {line}: two prompts are called {prompt.name}, also line {lines[same]}: rename one"
            )
        lines[same] = line
        prompts.append(prompt)
    if not prompts:
        raise SetError(f"{file}: holds no prompts: write a line `NAME: words` for each")
    return tuple(prompts)


def _nodes(file: Path) -> Iterator[tuple[yaml.Node, yaml.Node, str]]:
    """Name, words and category of each prompt: as nodes, which know their line, and of which YAML drops none of one name."""
    try:
        tree = yaml.compose(file.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SetError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SetError(f"{file}{where}: is not YAML: {getattr(error, 'problem', None) or error}") from error
    for key, value in tree.value if isinstance(tree, yaml.MappingNode) else ():
        if isinstance(value, yaml.MappingNode):
            yield from ((name, words, str(key.value)) for name, words in value.value)
        else:
            yield key, value, ""


def _prompt(name: yaml.Node, words: yaml.Node, category: str, where: str) -> Prompt:
    text = name.value if isinstance(name, yaml.ScalarNode) else ""
    if not text.strip() or text != text.strip() or text.startswith(".") or set(text) & {"/", "\\", "\0"}:
        raise SetError(
            f"{where}: {text!r} cannot be the name of a prompt: pictures are filed under it, give it another"
        )
    if not isinstance(words, yaml.ScalarNode) or words.tag != TEXT or not words.value.strip():
        raise SetError(f"{where}: holds no prompts: {text} has no words, write `{text}: a person ...`")
    return Prompt(text, " ".join(words.value.split()), category)


def categories_of(prompts: Iterable[Prompt]) -> dict[str, str]:
    """By what pictures are filed under: a prompt's name, or its words."""
    return {key: prompt.category for prompt in prompts if prompt.category for key in (prompt.words, prompt.name)}


def require_seeds(seeds: Sequence[str]) -> None:
    """Raises SetError: what is no seed, or one twice."""
    for text in seeds:
        if not (text.isascii() and text.isdecimal() and text == str(int(text))):
            raise SetError(f"--seeds {text}: write whole numbers from 0, as pictures are named by them")
        if seeds.count(text) > 1:
            raise SetError(f"--seeds {text}: stands there twice")


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


def facts(
    methods: Sequence[Method], kept: Asked | None, given: Iterable[Prompt], since: Collection[str] = ()
) -> list[str]:
    """What stands in the head of a table: the hash, and whether the pictures are what was asked for.

    `kept`: what is frozen; `given`: the prompts that this table was made with; `since`: methods that are known to have drawn
    after it was frozen.
    """
    drawn = {item.prompt: item.words for method in methods for item in method.drawn if item.prompt}
    seeds = sorted({item.seed for method in methods for item in method.drawn if item.seed})
    given = tuple(given)
    unlike = list(_unlike(methods))
    if kept is None:
        categories = {prompt.name: prompt.category for prompt in given}
        found = tuple(Prompt(name, words, categories.get(name, "")) for name, words in sorted(drawn.items()))
        return [f"prompts and seeds {Asked(found, tuple(seeds))}, as found: nothing was frozen here", *unlike]
    own = [method for method in methods if method.folder and not method.absent]
    lines = [f"prompts and seeds {kept}, frozen{_when([method.name for method in own], since)}"]
    if given and given != kept.prompts:
        lines.append(f"CHANGED since they were frozen: {_difference(kept, Asked(given, kept.seeds))}")
    known = {*kept.words, *kept.words.values()}
    if strange := sorted(set(drawn) - known):
        lines.append(f"NOT among the frozen prompts: {len(strange):,} of the pictures' prompts, e.g. {strange[0]}")
    return lines + unlike + [line for method in own for line in _against(kept, method)]


def _unlike(methods: Sequence[Method]) -> Iterator[str]:
    """Which methods were drawn of other prompts and seeds than the first: what is between them is not the methods' alone."""
    drawn = {method.name: {(item.prompt, item.seed) for item in method.drawn} for method in methods if method.drawn}
    first = next(iter(drawn), "")
    for name, there in drawn.items():
        if there != drawn[first]:
            yield (
                f"{name}: NOT the prompts and seeds of {first}: {len(there):,} a reference, {len(there & drawn[first]):,} of them "
                f"shared, of {len(drawn[first]):,}; their difference is one of prompts, too"
            )


def _when(drawn: Sequence[str], since: Collection[str]) -> str:
    """What is known of the time at which it was frozen."""
    after, unknown = [name for name in drawn if name in since], [name for name in drawn if name not in since]
    if not unknown:
        return " before the pictures were drawn" if after else ""
    others = f"the pictures of {', '.join(unknown)} were drawn"
    before = f" before the pictures of {', '.join(after)} were drawn" if after else ""
    return f"{before}; whether before {others} is not known"


def _against(kept: Asked, method: Method) -> Iterator[str]:
    """In what a method's pictures are others than the frozen ones."""
    there = {(item.prompt, item.seed) for item in method.drawn}
    seeds = {seed for _, seed in there}
    by_seed = not seeds.isdisjoint(kept.seeds)  # else they are filed without, or numbered otherwise
    wanted = [(prompt, seed) for prompt in kept.prompts for seed in (kept.seeds if by_seed else sorted(seeds))]
    lacking = [
        f"{prompt.name} {seed}".strip()
        for prompt, seed in wanted
        if (prompt.name, seed) not in there and (prompt.words, seed) not in there
    ]
    if lacking:
        what = "prompts and seeds" if by_seed else "prompts"
        yield (
            f"{method.name}: {len(lacking):,} of the {len(wanted):,} frozen {what} were never drawn, and are in none of its "
            f"numbers, e.g. {lacking[0]}"
        )
    if by_seed and (other := sorted(seeds - {*kept.seeds, ONE})):
        yield f"{method.name}: NOT among the frozen seeds: {', '.join(other[:3])}{', ...' if other[3:] else ''}"


def _difference(before: Asked, now: Asked) -> str:
    changed = sorted(name for name, words in now.words.items() if before.words.get(name, words) != words)
    new, gone = sorted(set(now.words) - set(before.words)), sorted(set(before.words) - set(now.words))
    lists = {"other words": changed, "new": new, "gone": gone}
    said = [f"{what}: {', '.join(names[:3])}{', ...' if names[3:] else ''}" for what, names in lists.items() if names]
    if before.seeds != now.seeds:
        said.append(f"seeds {', '.join(before.seeds)}, now {', '.join(now.seeds)}")
    return "; ".join(said) or "another order or category"
