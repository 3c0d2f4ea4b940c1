"""Recipes: YAML in, a checked pydantic model out, mistakes said in words before any work starts.

An error names the file, the field and the remedy. `${NAME}` in a value is an environment variable; a recipe's reader
may define names of its own (curation: `${CACHE}`).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
VARIABLE = re.compile(r"\$\{(\w+)\}")
SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


class RecipeError(UserError, ValueError):
    """The recipe cannot be run as it is; the message says where and what to change."""


class Section(BaseModel):
    """A part of a recipe: unknown fields are mistakes, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: str | os.PathLike[str], text: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file; `text`: its content, where it has been read already.

    Raises:
        RecipeError: unreadable, not YAML, not a mapping.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8") if text is None else text)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: a recipe is a YAML mapping of fields to values")
    return tree


def yaml_file(name: str | os.PathLike[str], folder: Path) -> Path:
    """NAME.yaml of `folder`, else the file `name`.

    Raises:
        RecipeError: there is neither; names those of the folder.
    """
    file = folder / f"{name}.yaml"
    if not file.is_file():
        file = Path(name)
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise RecipeError(f"{name}: neither a file nor one of {known}")
    return file


def with_changes(tree: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """A copy of `tree` with changes such as "text.max_area=0.03" made, one after the other (values are YAML).

    Raises:
        RecipeError: a change that cannot be read, or a field inside something that has none.
    """
    changes = list(changes)
    if not changes:
        return dict(tree)
    config = OmegaConf.create(dict(tree))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"cannot read {change!r}: write it as FIELD=VALUE, e.g. batch.size=64")
        try:
            value = OmegaConf.from_dotlist([f"value={text}"])
            OmegaConf.update(config, key.strip(), OmegaConf.to_container(value)["value"], merge=False)
        except (OmegaConfBaseException, yaml.YAMLError, TypeError, ValueError) as error:
            raise RecipeError(f"cannot make the change {change!r}: {str(error).splitlines()[0]}") from error
    return OmegaConf.to_container(config)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a.b": value} of nested mappings, in their order."""
    fields: dict[str, Any] = {}
    for key, value in tree.items():
        fields |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return fields


def variables_in(text: str) -> list[str]:
    """The names of all `${NAME}` in a recipe's text."""
    return sorted(set(VARIABLE.findall(text)))


def substitute(value: Any, own: Mapping[str, str]) -> Any:
    """`value` with every `${NAME}` in its strings replaced: by `own[NAME]`, else by the environment variable.

    Raises:
        RecipeError: a name that is neither.
    """
    if isinstance(value, dict):
        return {key: substitute(item, own) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, own) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        if name not in own and SECRET_NAME.search(name):
            raise RecipeError(
                f"the recipe uses ${{{name}}}, by its name a secret: a recipe is written into the run directory, and shown. "
                "Leave it to the environment, where the stores' own clients look for it"
            )
        if name not in own and name not in os.environ:
            raise RecipeError(f"the recipe uses ${{{name}}}, which is not set: export {name}=... first")
        return own[name] if name in own else os.environ[name]

    return VARIABLE.sub(replacement, value)


def validated(
    model: type[Model], tree: Mapping[str, Any], where: str, renamed: Mapping[str, str] | None = None
) -> Model:
    """`tree` as a `model`. `where`: what the message calls the file; `renamed`: old field -> what it is called now.

    Raises:
        RecipeError: one line a mistake, each with its field; for a misspelt field the one that was probably meant.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = [_explanation(model, problem, renamed or {}) for problem in error.errors()]
        plural = "s" * (len(lines) > 1)
        raise RecipeError(f"{where} has {len(lines)} mistake{plural}:\n" + "\n".join(lines)) from None


def _explanation(model: type[BaseModel], problem: Any, renamed: Mapping[str, str]) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        if field in renamed:
            return f"  {field}: is now called `{renamed[field]}`"
        known = _fields_at(model, problem["loc"][:-1])
        inside = [name for name in known if str(problem["loc"][-1]) in _fields_at(model, (*problem["loc"][:-1], name))]
        near = [f"{name}.{problem['loc'][-1]}" for name in inside] or difflib.get_close_matches(
            str(problem["loc"][-1]), known, n=1
        )
        advice = (
            f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else f"known here: {', '.join(known)}"
        )
        return f"  {field}: no such field; {advice}"
    if problem["type"] == "missing":
        return f"  {field}: is required"
    message = problem["msg"].removeprefix("Value error, ")
    return f"  {field}: {message} (is {problem['input']!r})" if field else f"  {message}"


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
