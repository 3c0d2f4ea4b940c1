"""The list of methods, in the order of the table, and how a row is asked for by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from common.errors import UserError
from evaluation.asked import Asked
from evaluation.methods.base import DrawingMethod
from evaluation.methods.drawing import HERE, Hands, pictures_by
from evaluation.methods.face_makeup import FaceMakeUp, FaceMakeUpSoftStyle, FaceMakeUpStrongStyle, FaceMakeUpWithoutPose
from evaluation.methods.folder import CEILING, FLOOR, other_people, references_themselves
from evaluation.methods.instantid import InstantId
from evaluation.methods.ip_adapter import IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2
from evaluation.methods.photomaker.method import PhotoMaker, PhotoMakerV2
from evaluation.methods.process.described import SUFFIXES, method_of
from evaluation.methods.process.pulid import PuLid
from evaluation.methods.sources import MethodSources, Unavailable
from evaluation.sets import Method, Reference, open_method

KINDS: tuple[type[DrawingMethod], ...] = (
    FaceMakeUp, FaceMakeUpWithoutPose, FaceMakeUpSoftStyle, FaceMakeUpStrongStyle,
    IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2, PhotoMaker, PhotoMakerV2, InstantId,
    PuLid,
)  # fmt: skip
METHODS = {kind.name: kind for kind in KINDS}
BOUNDS = {
    "references": (CEILING, references_themselves),
    "others": (FLOOR, other_people),
}  # what copying reaches, and what somebody else does
DEFAULT = ("face-makeup", "ip-adapter-faceid-plusv2", "photomaker", "instantid", "pulid", *BOUNDS)


@dataclass(frozen=True)
class Row:
    """What makes a row of the table. `kind`: the method that draws it; None: it only looks at what is there."""

    title: str
    make: Callable[..., Method]
    kind: type[DrawingMethod] | None = None

    def __call__(self, references: Sequence[Reference], asked: Asked, out: Path, hands: Hands = HERE) -> Method:
        return self.make(references, asked, out, hands) if self.draws else self.make(references, asked, out)

    @property
    def draws(self) -> bool:
        return self.kind is not None


def require_names(names: Sequence[str]) -> None:
    """Raises UserError: one of them is the name of no method; places are not looked at."""
    for name in names:
        if "=" not in name and name not in METHODS and name not in BOUNDS:
            raise UserError(
                f"--methods {name}: no such method{_near(name)}: choose of {', '.join([*METHODS, *BOUNDS])}, NAME=FOLDER, or NAME=FILE.yaml"
            )


def rows_of(names: Sequence[str], sources: MethodSources) -> list[Row]:
    """What makes each row: names of `METHODS` and `BOUNDS`, NAME=FOLDER of pictures that were drawn anywhere,
    or NAME=FILE.yaml of a program.

    Raises:
        UserError: no such method, one twice, or a place or a setting of none of those that are asked for.
    """
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise UserError(f"--methods: {twice[0]} stands there twice")
    require_names(names)
    rows = [_row(name, sources) for name in names]
    kinds: dict[str, type[DrawingMethod]] = {}
    for kind in (row.kind for row in rows if row.kind):
        if kind.name in kinds:
            raise UserError(f"--methods: two of them are filed under {kind.name}: give the program another name")
        kinds[kind.name] = kind
    for part in sources.named:
        _check_part(part, kinds)
    for change in sources.changes:
        _check_name("--set", change, kinds)
    for kind in kinds.values():
        with suppress(Unavailable):  # that is told in its row; a mistake is told here, before anything is drawn
            kind(sources)
    return rows


def twin_rows(names: Sequence[str], sources: MethodSources, folder: Path) -> list[Row]:
    """A row of the tiny random twin of each of these methods that has one, marked: it shows that the method runs, and draws noise."""
    kinds = [METHODS[name] for name in names if name in METHODS]
    made = [_twin(kind, sources, folder / kind.name) for kind in kinds]
    return [_drawn_by(*twin) for twin in made if twin]


def _twin(
    kind: type[DrawingMethod], sources: MethodSources, folder: Path
) -> tuple[type[DrawingMethod], MethodSources] | None:
    folder.mkdir(parents=True, exist_ok=True)
    twin = kind.twin(folder)
    if twin is None:
        return None
    own = {
        "name": f"{kind.name}-twin",
        "title": f"{kind.title}: RANDOM TWIN",
        "defaults": {**kind.defaults, **twin.settings},
        "competes": False,
    }
    named = {f"{own['name']}.{role}": str(place) for role, place in twin.parts.items()}
    return type(f"{kind.__name__}Twin", (kind,), own), replace(sources, named=named, changes=())


def _row(name: str, sources: MethodSources) -> Row:
    if name in BOUNDS:
        title, make = BOUNDS[name]
        return Row(title, lambda references, asked, out: make(references, asked))
    title, equals, place = name.partition("=")
    if equals and not title:
        raise UserError(f"--methods {name}: write NAME={place}")
    if equals and place.endswith(SUFFIXES):
        return _drawn_by(method_of(title, Path(place)), sources)
    if equals:
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise UserError(f"--methods {name}: no such folder of pictures")
        return Row(title, lambda references, asked, out: open_method(title, folder, list(references), asked.words))
    return _drawn_by(METHODS[name], sources)


def _drawn_by(kind: type[DrawingMethod], sources: MethodSources) -> Row:
    return Row(kind.title, partial(pictures_by, kind, sources), kind)


def _check_part(text: str, kinds: Mapping[str, type[DrawingMethod]]) -> None:
    method, _, role = text.partition(".")
    if method == FaceMakeUp.name and any(issubclass(kind, FaceMakeUp) for kind in kinds.values()):
        kinds = {**kinds, method: FaceMakeUp}  # its variants draw with its model
    _check_name("--part", text, kinds)
    if role not in (roles := kinds[method].roles()):
        raise UserError(f"--part {text}: {method} has no such part: name one of {', '.join(roles) or '(it has none)'}")


def _check_name(option: str, text: str, kinds: Mapping[str, type[DrawingMethod]]) -> None:
    """`kinds`: what is asked for; anything else would be ignored."""
    method = text.partition(".")[0]
    if method in kinds:
        return
    if method in METHODS:
        raise UserError(f"{option} {text}: {method} is not among --methods: ask for it, or leave this out")
    raise UserError(
        f"{option} {text}: no such method{_near(method)}: write METHOD.NAME=VALUE, METHOD one of {', '.join(kinds) or 'those asked for'}"
    )


def _near(name: str) -> str:
    close = difflib.get_close_matches(name, [*METHODS, *BOUNDS], 1)
    return f", did you mean {close[0]}" if close else ""
