"""What a word of the sandbox looks like: its arguments, and what they may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Value = int | float | str

SECONDS_MAX: Final = 86_400.0
BYTES_MAX: Final = 1 << 30

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")


class Place(StrEnum):
    """Where a word may stand."""

    PROMPT = "prompt"
    CONTROL = "control"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: a number within `least` and `most`, one of `choices`, or a code."""

    name: str
    kind: type[int | float | str]
    default: Value | None = None
    least: float = 0
    most: float = 0
    choices: tuple[str, ...] = ()

    def read(self, given: object) -> Value:
        """`given`, from a prompt's text or a rule's JSON, as this argument's value.

        Raises ValueError with a message for the caller when it is not one.
        """
        if self.kind is str:
            return self._read_word(given)
        if isinstance(given, bool) or not isinstance(given, int | float | str):
            raise ValueError(f"{self.name} must be a number")
        try:
            number = float(given) if self.kind is float else int(given)
        except (ValueError, OverflowError):
            raise ValueError(f"{self.name} must be a number, not {given!r}") from None
        fraction = isinstance(given, float) and number != given
        if fraction or not self.least <= number <= self.most:
            raise ValueError(f"{self.name} must be {self.allowed()}")
        return number

    def _read_word(self, given: object) -> str:
        if not isinstance(given, str):
            raise ValueError(f"{self.name} must be a word")
        if self.choices and given not in self.choices:
            raise ValueError(f"{self.name} must be {self.allowed()}, not {given!r}")
        if not self.choices and not _CODE.fullmatch(given):
            raise ValueError(f"{self.name} must be {self.allowed()}")
        return given

    def allowed(self) -> str:
        """What the argument may be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is str:
            return "a code of letters, digits, _ . and -"
        whole = "a whole number" if self.kind is int else "a number"
        return f"{whole} from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class Directive:
    """One word: what the sandbox does, and what a caller of the vendor sees of it."""

    name: str
    does: str
    caller_sees: str
    parameters: tuple[Parameter, ...] = ()
    place: Place = Place.BOTH

    @property
    def usage(self) -> str:
        """The word and its arguments, optional ones in brackets: `stall SECONDS [BYTES]`."""
        shown = [
            parameter.name.upper() if parameter.default is None else f"[{parameter.name.upper()}]"
            for parameter in self.parameters
        ]
        return " ".join([self.name, *shown])
