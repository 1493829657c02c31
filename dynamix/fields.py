"""What a setting may be: its type and range, which its dataclass checks, and its value read from text."""

import math
import numbers
import re
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; `above` and `below` are ends that are no longer allowed."""

    low: float | int = -math.inf
    high: float | int = math.inf
    above: float | int = -math.inf
    below: float | int = math.inf

    def __contains__(self, number: Any) -> bool:
        return bool(self.low <= number <= self.high and self.above < number < self.below)

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"from {self.low:g} to {self.high:g}"
        bounds = {"of at least": self.low, "above": self.above, "of at most": self.high, "below": self.below}
        return " and ".join(f"{words} {end:g}" for words, end in bounds.items() if math.isfinite(end))


Count = Annotated[int, Range(1)]
Number = Annotated[int, Range(0)]
Amount = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, below=1)]
Cosine = Annotated[float, Range(-1, 1)]


class Section:
    """Base of the settings' dataclasses: none is made with a value of another type or out of range."""

    __no_type_check__ = True  # these classes say more of a wrong value than a type checker does
    _section = ""

    def __init_subclass__(cls, section: str = "") -> None:
        cls._section = section and f"{section}."

    def __post_init__(self) -> None:
        for name, hint in hints(cast(Any, type(self))).items():
            value = getattr(self, name)
            if not _fits(value, hint):
                raise ValueError(f"{self._section}{name} is {value!r}: it must be {_allowed(hint)}")
            if hasattr(value, "item"):  # numpy's numbers cannot be written as JSON
                object.__setattr__(self, name, value.item())
        self._agree()

    def _agree(self) -> None:
        """Raise ValueError where fields do not go together."""


@cache  # asked for every config that is made, and tables make thousands
def hints(section: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, ranges included."""
    return {field.name: field.type for field in fields(section)}


def read(text: str, hint: Any) -> Any:
    """The value of type `hint` that `text` writes. Raises ValueError saying what is allowed."""
    try:
        return _first(text.strip(), (hint,))
    except ValueError:
        raise ValueError(f"it must be {_allowed(hint)}") from None


def _read(text: str, hint: Any) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _read(text, inner[0])
    if kind in (Union, UnionType):
        return _first(text, inner)
    if kind is tuple:
        parts = re.split("[x,]", re.sub(r"[][() ]", "", text))
        return tuple(_read(part, each) for part, each in zip(parts, inner, strict=True))
    if hint is bool and text.lower() in WORDS:
        return WORDS[text.lower()]
    if hint is NoneType and text.lower() == "none":
        return None
    if hint in (bool, NoneType):
        raise ValueError
    return hint(text) if hint in (int, float) else text


def _first(text: str, kinds: tuple[Any, ...]) -> Any:
    """The value of the first of the types that has such values."""
    for kind in kinds:
        try:
            value = _read(text, kind)
        except ValueError:
            continue
        if _fits(value, kind):
            return value
    raise ValueError


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _fits(value, inner[0]) and value in inner[1]
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if kind is Literal:
        return isinstance(value, str) and value in inner
    if kind is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and bool(abs(value) < math.inf)  # not isfinite: it overflows on a whole number too large
    return isinstance(value, hint)


def _allowed(hint: Any) -> str:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return f"{_allowed(inner[0])} {inner[1]}"
    if kind in (Union, UnionType):
        return " or ".join(map(_allowed, inner))
    if kind is Literal:
        return f"one of {', '.join(inner)}" if inner[1:] else inner[0]
    if kind is tuple:
        example = "x".join(("64", "32", "16")[: len(inner)])
        return f"{len(inner)} numbers, as {example}, each {_allowed(inner[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none", str: "text"}
    return words.get(hint, f"the section {getattr(hint, '__name__', hint)}")
