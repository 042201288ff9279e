"""Sentence templates, and the sentences they stand for.

A template is text with `(this|that)`, `[left out or not]`, `(in;any;order)`, `<rule>` and `{list}` or
`{list:slot}`. Which sentence comes out is decided by lots with a key: the same key gives the same sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from mimo_fed.data.lots import position
from mimo_fed.errors import DataError

_TOKEN = re.compile(r"[\[\]()|;]|<[^<>]+>|\{[^{}]+\}|[^\[\]()|;<>{}]+")
_CLOSING = {"(": ")", "[": "]"}
_DEPTH_MAX = 30

_T = TypeVar("_T")


@dataclass(frozen=True)
class Name:
    """A rule or a list by its name."""

    kind: Literal["rule", "list"]
    name: str


@dataclass(frozen=True)
class Group:
    """Sequences of nodes: one of them, or all in any order."""

    parts: tuple[tuple[str | Name | Group, ...], ...]
    optional: bool
    permuted: bool


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """What templates refer to.

    Args:
        rules: templates by the name of the rule.
        lists: values by the name of the list; values are templates.
    """

    rules: Mapping[str, str]
    lists: Mapping[str, Sequence[str]]

    def sentence(self, template: str, key: str) -> str | None:
        """Return one sentence of a template.

        Args:
            template: as in this module's description.
            key: decides which sentence.

        Returns:
            The sentence, single spaces between words; None if it needs a list that is not there.

        Raises:
            DataError: the template is malformed, or needs a rule that is not there or that needs itself.
        """
        pieces = list(self._pieces(parse(template), _Lots(key), 0))
        return None if None in pieces else " ".join("".join(piece or "" for piece in pieces).split())

    def _pieces(self, nodes: Sequence[str | Name | Group], lots: _Lots, depth: int) -> Iterator[str | None]:
        if depth > _DEPTH_MAX:
            raise DataError(f"rules of sentences need each other: {nodes!r}")
        for node in nodes:
            if isinstance(node, str):
                yield node
            elif isinstance(node, Group):
                yield from self._group(node, lots, depth)
            elif node.kind == "rule":
                if node.name not in self.rules:
                    raise DataError(f"a template of sentences needs a rule that is not there: {node.name}")
                yield from self._pieces(parse(self.rules[node.name]), lots, depth + 1)
            elif values := self.lists.get(node.name):
                yield from self._pieces(parse(lots.choose(values)), lots, depth + 1)
            else:
                yield None

    def _group(self, group: Group, lots: _Lots, depth: int) -> Iterator[str | None]:
        if group.optional and lots.draw() < 0.5:
            return
        if not group.permuted:
            yield from self._pieces(lots.choose(group.parts), lots, depth + 1)
            return
        left = list(group.parts)
        while left:
            yield " "
            yield from self._pieces(left.pop(int(lots.draw() * len(left))), lots, depth + 1)
        yield " "


class _Lots:
    """Draws one after the other, all decided by the key."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0

    def draw(self) -> float:
        self._count += 1
        return position(str(self._count), self._key)

    def choose(self, values: Sequence[_T]) -> _T:
        return values[int(self.draw() * len(values))]


def parse(template: str) -> tuple[str | Name | Group, ...]:
    """Read a template.

    Raises:
        DataError: brackets do not match.
    """
    tokens = _TOKEN.findall(template)
    if "".join(tokens) != template:
        raise DataError(f"a template of sentences is malformed: {template!r}")
    group, rest = _bracket(["(", *tokens, ")"], 0)
    if rest != len(tokens) + 2:
        raise DataError(f"brackets of a template do not match: {template!r}")
    return group.parts[0] if len(group.parts) == 1 else (group,)


def _sequence(tokens: Sequence[str], at: int) -> tuple[tuple[str | Name | Group, ...], int]:
    nodes: list[str | Name | Group] = []
    while at < len(tokens) and tokens[at] not in ("|", ";", ")", "]"):
        token = tokens[at]
        if token in _CLOSING:
            group, at = _bracket(tokens, at)
            nodes.append(group)
            continue
        if token[0] == "<":
            nodes.append(Name("rule", token[1:-1]))
        elif token[0] == "{":
            nodes.append(Name("list", token[1:-1].partition(":")[0]))
        else:
            nodes.append(token)
        at += 1
    return tuple(nodes), at


def _bracket(tokens: Sequence[str], at: int) -> tuple[Group, int]:
    opening, parts, separators = tokens[at], list[tuple[str | Name | Group, ...]](), set[str]()
    while True:
        part, at = _sequence(tokens, at + 1)
        parts.append(part)
        if at == len(tokens) or tokens[at] in (")", "]"):
            break
        separators.add(tokens[at])
    if at == len(tokens) or tokens[at] != _CLOSING[opening] or len(separators) > 1:
        raise DataError(f"brackets of a template do not match: {''.join(tokens)!r}")
    return Group(tuple(parts), optional=opening == "[", permuted=";" in separators), at + 1
