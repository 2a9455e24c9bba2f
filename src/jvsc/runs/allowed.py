"""The allowed values of a setting, in words, for help and for error messages."""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NOUNS: dict[Any, str] = {bool: "True or False", int: "a whole number", float: "a number"}
# pydantic's limits, by the names of their attributes.
LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
LARGEST_SEED = 2**63
OR_NONE = ", or None"


def allowed(field: FieldInfo) -> str:
    """The allowed values of a field, such as "a number > 0 and <= 1"; "" for any text."""
    return _allowed(field.annotation, field.metadata)


def allowed_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """The allowed values at a place such as ("data", "patch_size"), or ("seeds", 0) in a tuple."""
    annotation: Any = kind
    limits: list[Any] = []
    for part in place:
        if isinstance(part, int):
            annotation, limits = get_args(annotation)[0], []
            continue
        fields: dict[str, FieldInfo] = getattr(annotation, "model_fields", {})
        if part not in fields:
            return ""
        annotation, limits = fields[part].annotation, fields[part].metadata
    return _allowed(annotation, limits)


def _allowed(annotation: Any, limits: list[Any]) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        return _allowed(annotation, [*limits, *more])
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, arguments[:-1])) + f" or {arguments[-1]}"
    if get_origin(annotation) in (Union, UnionType):
        return _allowed(arguments[0], limits) + OR_NONE
    if get_origin(annotation) is tuple:
        return f"in parentheses, each {_allowed(arguments[0], [])}"
    return " ".join(filter(None, [NOUNS.get(annotation, ""), _bounds(limits)]))


def _bounds(limits: list[Any]) -> str:
    """Both ends of a range, such as "> 0 and < 1"."""
    flat = [inner for limit in limits for inner in getattr(limit, "metadata", [limit])]
    return " and ".join(
        f"{sign} {'2^63' if value == LARGEST_SEED else value}"
        for name, sign in LIMITS.items()
        for limit in flat
        if (value := getattr(limit, name, None)) is not None
    )
