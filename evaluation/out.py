"""The folder OUT of a comparison: whose table it holds, and that a refused command leaves nothing behind."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.errors import UserError
from common.storage import Storage
from evaluation.sets import Method, Reference, SetError, set_hash

NAME = "compared.json"
EVALUATE = "make evaluate"
LOCK = ".at-work"


@dataclass(frozen=True)
class Comparison:
    """What a table is of. `by`: the command; `references`: their folder; `set`: their hash; `methods`: their folders by name.

    Of `make evaluate` only that it is its: its references are in OUT, and METHODS chooses the rows of each table anew.
    """

    by: str
    references: str = ""
    set: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: str, references: Sequence[Reference], methods: Sequence[Method]) -> Comparison:
        """That of `python -m evaluation score`. `folder`: of the references."""
        places = {method.name: str(Path(method.folder).absolute()) for method in methods if method.folder}
        return cls("score", str(Path(folder).absolute()), set_hash(references), places)


def claim(out: Storage, mine: Comparison) -> None:
    """Say in `out` what its table will be of. The same again, and the same with more methods, goes on there.

    Raises:
        SetError: it holds the table of another comparison, which this one would replace.
    """
    require_free(out, mine)
    out.write_json(NAME, asdict(mine))


def require_free(out: Storage, mine: Comparison) -> None:
    """Raises SetError: `out` holds the table of another comparison."""
    if not out.exists(NAME):
        return
    told = out.read_json(NAME, ["by", "references", "set", "methods"])
    if other := _difference(Comparison(told["by"], told["references"], told["set"], told["methods"]), mine):
        raise SetError(f"{out.root}: holds another table, {other}: take another --out")


def _difference(before: Comparison, now: Comparison) -> str:
    """What of the table that is there would be lost; "" where nothing would."""
    if before.by != now.by:
        return f"of `{before.by}`"
    if before.set != now.set and before.references != now.references:
        return (
            f"of the references {before.references} (set {before.set}), and these are {now.references} (set {now.set})"
        )
    for name, folder in before.methods.items():
        if name not in now.methods:
            return f"with the method {name} ({folder}), which is not named now"
        if now.methods[name] != folder:
            return f"whose {name} is {folder}, and now is {now.methods[name]}"
    return ""


@contextmanager
def at_work_alone(out: Storage) -> Iterator[None]:
    """While this process draws and scores into `out`: another one of this machine would draw the same pictures too. Of a bucket
    nobody is asked: CLUSTER takes a job that is at work on it up again.

    Raises:
        SetError: another is at work there.
    """
    if not out.is_local:
        yield
        return
    folder = Path(out.path(""))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except BlockingIOError as error:
            raise SetError(
                f"{out.root}: another evaluation is at work there: wait for it, or take another --out"
            ) from error
        yield


@contextmanager
def refused_leaves_nothing(folder: Path) -> Iterator[None]:
    """Where the block ends in a UserError, a folder that was not there before it is taken away again."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except UserError:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        for place in new[1:]:
            with suppress(OSError):  # something else has been put there meanwhile
                place.rmdir()
        raise
