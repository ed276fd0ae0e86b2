"""JSON from files of strangers: parsed within bounds, and checked against the type that a reader states.

A format is a `TypedDict`, whose fields may be `str`, `int`, `float`, `bool`, None, `Any`, `list[…]`, `dict[str, …]`,
unions of these and other formats. Fields that it doesn't name are kept, whatever they hold.
"""

import functools
import json
import math
import types
import typing
from typing import Any, TypeVar

from rnagan.io.bounds import MAX_DIGITS, MAX_JSON_BYTES

T = TypeVar("T")
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
_SHOWN = 40  # characters of a wrong value


def parse_json(data: bytes, *, nan: bool = False) -> Any:
    """The value of JSON bytes in UTF-8. `nan`: NaN and infinity, which are no JSON, are taken.

    Raises `ValueError`, a phrase, on anything else, on a field that comes twice in one object, on nesting that Python
    can't follow, and on more than MAX_JSON_BYTES or MAX_DIGITS.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, and {MAX_JSON_BYTES:,} are read")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=float if nan else _finite,
            parse_constant=float if nan else _finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_of(data: bytes, format_: type[T], name: object, *, nan: bool = False) -> T:
    """The value of JSON bytes as a `format_`: `parse_json` and `check_json`, their errors with the file's name."""
    try:
        value = parse_json(data, nan=nan)
    except ValueError as error:
        raise ValueError(
            f"{name} is not valid JSON ({error}); delete it and run the step that makes it again."
        ) from None
    return check_json(value, format_, name)


def check_json(value: Any, format_: type[T], name: object) -> T:
    """`value` as a `format_`; `ValueError` with the name of its file and of the first field that isn't."""
    if found := json_problem(value, format_):
        raise ValueError(f"{name} {found}; take a whole copy of it, or run the step that makes it again.")
    return value


def json_problem(value: Any, format_: Any) -> str | None:
    """What keeps a value from being a `format_`, a phrase that names the field; None where nothing does."""
    return _problem(value, format_, "")


def _problem(value: Any, kind: Any, at: str) -> str | None:
    """What keeps a value from being of a kind, a phrase that goes on after the file's name; `at`: its field."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return None
    if origin in (typing.Union, types.UnionType):
        found = [_problem(value, part, at) for part in parts]
        return None if None in found else _wrong(value, kind, at)
    if origin in (typing.Required, typing.NotRequired):
        return _problem(value, parts[0], at)
    if typing.is_typeddict(kind):
        return _problem_of_fields(value, kind, at)
    if origin is dict:
        if not isinstance(value, dict):
            return _wrong(value, kind, at)
        return next(filter(None, (_problem(each, parts[1], _join(at, name)) for name, each in value.items())), None)
    if origin is list:
        if not isinstance(value, list):
            return _wrong(value, kind, at)
        return next(filter(None, (_problem(each, parts[0], _join(at, n)) for n, each in enumerate(value))), None)
    return None if _is_plain(value, kind) else _wrong(value, kind, at)


def _problem_of_fields(value: Any, kind: Any, at: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, kind, at)
    for name, own in _fields(kind).items():
        if name in value:
            found = _problem(value[name], own, _join(at, name))
        else:
            found = f"has no field {_join(at, name)!r}" if name in kind.__required_keys__ else None
        if found:
            return found
    return None


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _is_plain(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is int:  # those that NumPy takes
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return isinstance(value, int | float if kind is float else kind)


def _wrong(value: Any, kind: Any, at: str) -> str:
    shown = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else json.dumps(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + " …"
    if not at:
        return f"holds {shown}, and must hold {_name(kind)}"
    return f"has {shown} as {at!r}, which must be {_name(kind)}"


def _name(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_name, typing.get_args(kind))))
    if typing.is_typeddict(kind) or typing.get_origin(kind) is dict:
        return "an object"
    return "a list" if typing.get_origin(kind) is list else _NAMES[kind]


def _join(at: str, name: object) -> str:
    return f"{at}/{name}" if at else str(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"it has the field {twice[:_SHOWN]!r} twice")
    return fields


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it has the value {text[:_SHOWN]}, which is no number")
    return value
