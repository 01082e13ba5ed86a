"""Which faults bend one request: words read from its prompt, and rules set by the control route."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from proxy.sandbox.directives import DIRECTIVES
from proxy.sandbox.grammar import Directive, Place, Value

_WORD: Final = re.compile(r"\[\[\s*([a-z0-9-]+)((?:\s+[^\s\[\]]+)*)\s*\]\]")
ALL: Final = "all"
RULES_MAX: Final = 1000

DOOR_FAULTS: Final = frozenset({"refuse", "black-hole"})
"""Faults of the listening socket itself: they have a duration, not a number of turns."""

CONNECTION_FAULT: Final = "reset-before"
"""The fault of a connection of which nothing has been read yet."""


class Operation(StrEnum):
    """What a request does at the vendor; a rule names the ones it bends."""

    SUBMIT = "submit"
    POLL = "poll"
    CONTENT = "content"
    LINK = "link"
    MODELS = "models"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Fault:
    """One word with its arguments by name."""

    name: str
    arguments: Mapping[str, Value]


class Faults:
    """The faults that bend one request, by name; an earlier one of the same name wins."""

    __slots__ = ("_by_name",)

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._by_name: dict[str, Fault] = {}
        for fault in faults:
            self._by_name.setdefault(fault.name, fault)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __add__(self, other: Faults) -> Faults:
        return Faults((*self._by_name.values(), *other._by_name.values()))

    def number(self, name: str, argument: str, default: float = -1.0) -> float:
        """A numeric argument of the fault `name`; `default` when the fault is absent."""
        value = self._value(name, argument)
        return float(value) if value is not None else default

    def whole(self, name: str, argument: str, default: int = -1) -> int:
        """A whole argument of the fault `name`; `default` when the fault is absent."""
        value = self._value(name, argument)
        return int(value) if value is not None else default

    def word(self, name: str, argument: str, default: str = "") -> str:
        """A word argument of the fault `name`; `default` when the fault is absent."""
        value = self._value(name, argument)
        return str(value) if value is not None else default

    def _value(self, name: str, argument: str) -> Value | None:
        fault = self._by_name.get(name)
        return None if fault is None else fault.arguments[argument]


def from_prompt(prompt: str, gateway: str) -> Faults:
    """The faults that `prompt` asks of the gateway of this name.

    Raises ValueError, with a message that names the word, for one that is no directive or has
    arguments it does not take: a rehearsal with a misspelt word must not look like a success.
    """
    faults = []
    bound_to = ALL
    for match in _WORD.finditer(prompt):
        name, given = match.group(1), match.group(2).split()
        directive = DIRECTIVES.get(name)
        if directive is None or directive.place is Place.CONTROL:
            raise ValueError(f"[[{name}]] is not a word of the sandbox; GET /sandbox lists them")
        if len(given) > len(directive.parameters):
            raise ValueError(f"[[{name}]] takes fewer arguments: {directive.usage}")
        named = {p.name: text for p, text in zip(directive.parameters, given, strict=False)}
        fault = _fault(directive, named)
        if name == "gateway":
            bound_to = str(fault.arguments["name"])
        elif bound_to in {ALL, gateway}:
            faults.append(fault)
    return Faults(faults)


def _fault(directive: Directive, given: Mapping[str, object]) -> Fault:
    arguments: dict[str, Value] = {}
    for parameter in directive.parameters:
        if parameter.name in given:
            try:
                arguments[parameter.name] = parameter.read(given[parameter.name])
            except ValueError as wrong:
                raise ValueError(f"{directive.name}: {wrong}") from None
        elif parameter.default is None:
            raise ValueError(f"{directive.name} needs {parameter.name}: {directive.usage}")
        else:
            arguments[parameter.name] = parameter.default
    return Fault(directive.name, arguments)


@dataclass(slots=True)
class Rule:
    """A fault that stays until removed or used up: `times` is what is left, None for ever."""

    fault: Fault
    gateway: str
    on: Operation
    times: int | None

    def as_json(self) -> dict[str, Any]:
        """The rule as the control route shows it, which is also how it is set."""
        shown: dict[str, Any] = {"gateway": self.gateway, "fault": self.fault.name}
        return {**shown, **self.fault.arguments, "on": self.on.value, "times": self.times}

    def covers(self, gateway: str, operation: Operation | None) -> bool:
        """Does the rule bend this operation at this gateway? None stands for a bare connection."""
        if operation is None:
            return self.fault.name == CONNECTION_FAULT and self.gateway in {ALL, gateway}
        if self.fault.name == CONNECTION_FAULT or self.fault.name in DOOR_FAULTS:
            return False
        return self.gateway in {ALL, gateway} and self.on in {Operation.ANY, operation}


def read_rule(given: object, gateways: Iterable[str]) -> Rule:
    """A rule from the control route's JSON; ValueError says what is wrong with it."""
    if not isinstance(given, dict):
        raise ValueError("a rule is a JSON object")
    name = given.get("fault")
    directive = DIRECTIVES.get(name) if isinstance(name, str) else None
    if directive is None or directive.place is Place.PROMPT:
        raise ValueError(f"unknown fault {name!r}; GET /sandbox lists them")
    known = {"gateway", "fault", "on", "times", *(p.name for p in directive.parameters)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f"{name} does not take {', '.join(unknown)}: {directive.usage}")
    gateway, names = given.get("gateway", ALL), (*gateways, ALL)
    if gateway not in names:
        raise ValueError(f"gateway must be one of {', '.join(names)}, not {gateway!r}")
    times = given.get("times")
    if times is not None and (type(times) is not int or not 1 <= times <= 1_000_000):
        raise ValueError("times must be a whole number of at least 1, or null for ever")
    if times is not None and name in DOOR_FAULTS:
        raise ValueError(f"{name} takes seconds, not times")
    on = given.get("on", Operation.SUBMIT.value)
    if on not in {operation.value for operation in Operation}:
        raise ValueError(f"on must be one of {', '.join(Operation)}, not {on!r}")
    return Rule(_fault(directive, given), gateway, Operation(on), times)


@dataclass(slots=True)
class Switchboard:
    """The rules in force, newest last."""

    rules: list[Rule] = field(default_factory=list)

    def put(self, rule: Rule) -> None:
        """Set a rule; it takes the place of one with the same gateway, fault and operation."""
        same = (rule.gateway, rule.fault.name, rule.on)
        self.rules = [r for r in self.rules if (r.gateway, r.fault.name, r.on) != same]
        if len(self.rules) >= RULES_MAX:
            raise ValueError(f"there are {RULES_MAX} rules already; DELETE /sandbox/faults")
        self.rules.append(rule)

    def take(self, gateway: str, operation: Operation | None) -> Faults:
        """The faults for one request, or for a bare connection; each rule used loses a turn."""
        taken = []
        for rule in reversed(self.rules):
            if rule.covers(gateway, operation):
                taken.append(rule.fault)
                if rule.times is not None:
                    rule.times -= 1
        self.rules = [rule for rule in self.rules if rule.times != 0]
        return Faults(taken)

    def remove(self, gateway: str | None = None) -> None:
        """Drop the rules of one gateway (those for all stay), or every rule."""
        self.rules = [r for r in self.rules if gateway is not None and r.gateway != gateway]

    def drop(self, rule: Rule) -> None:
        """Remove this very rule, if it is still in force."""
        self.rules = [other for other in self.rules if other is not rule]

    def shuts(self, gateway: str) -> bool:
        """Does a rule keep this gateway's door shut?"""
        doors = (rule for rule in self.rules if rule.fault.name in DOOR_FAULTS)
        return any(rule.gateway in {ALL, gateway} for rule in doors)
