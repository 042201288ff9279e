"""Requests to a home, and the intent behind each: users are devices of homes, in many languages.

The package `home-assistant-intents` describes sentences by templates. A device is asked for some things only:
a watch for music, a fridge for lists and timers, a phone for lights. A home has rooms and devices of its own,
and says most of what could be said. A template is in one split for everybody.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from mimo_fed.data.archive import Tell, silent
from mimo_fed.data.corpus import DemoDevice
from mimo_fed.data.lots import RANKS, position
from mimo_fed.data.packaged import Packaged, packaged
from mimo_fed.data.people import hashed
from mimo_fed.data.seen import normalised
from mimo_fed.data.splits import Piece, choose_texts
from mimo_fed.data.templates import Grammar
from mimo_fed.data.users import SetPlan
from mimo_fed.errors import DataError

LANGUAGES = ("en", "de", "fr", "it", "es", "pt-BR", "nl", "pl", "cs", "da", "sv", "ru")
COMMAND = "mimo-fed data build home-assistant"
LICENCE = (
    "Sentences are made from templates of home-assistant-intents, by The Home Assistant Authors, under the "
    "Apache License 2.0. What rooms and devices are called is this project's."
)
_USERS = 240
_SENTENCES = 3
"""how many of one template a home says"""
_SAID = 0.7
"""share of the templates that a home uses"""
_NUMBERS_MAX = 25

_ASKED: Mapping[str, tuple[str, ...]] = {
    "phone": ("light", "switch"),
    "fridge": ("timer", "todo"),
    "watch": ("media_player",),
    "tablet": ("climate", "fan", "vacuum", "lawn_mower", "weather", "talk"),
    "car": ("cover", "lock", "valve", "person"),
}
"""what a device of each class is asked for"""
_DOMAINS = (
    ("HassLightSet", "light"),
    ("HassMedia", "media_player"),
    ("HassSetVolume", "media_player"),
    ("HassClimate", "climate"),
    ("HassFan", "fan"),
    ("HassVacuum", "vacuum"),
    ("HassLawnMower", "lawn_mower"),
    ("HassList", "todo"),
    ("HassShoppingList", "todo"),
    ("HassGetWeather", "weather"),
    ("HassSetPosition", "cover"),
    ("HassGetCurrent", "talk"),
    ("HassBroadcast", "talk"),
    ("HassRespond", "talk"),
    ("HassNevermind", "talk"),
)
_WILDCARDS = {"shopping_list_item": "item", "todo_list_item": "item"}


@dataclass(frozen=True, kw_only=True)
class Template:
    """One template of a language."""

    key: str
    """what it is known by: language, intent, and where it stands"""
    sentence: str
    intent: str
    domain: str


def build_homes(
    plan: SetPlan, tell: Tell = silent
) -> tuple[tuple[DemoDevice, ...], dict[str, Any], tuple[str, ...]]:
    """Build devices of homes from the templates of the installed package.

    Args:
        plan: which users; without a number, 240.
        tell: told what is going on.

    Returns:
        The devices, where their texts come from, and the intents that occur.

    Raises:
        DataError: the package is not installed, or has no templates of a language that we have words for,
            or too few homes have enough to say.
    """
    package = packaged(
        "home_assistant_intents", "home-assistant-intents", hint="pip install 'mimo-fed[data]'"
    )
    wanted = plan.users or _USERS
    homes = 1 + -(-wanted // (len(plan.languages) * len(_ASKED)))
    devices: list[DemoDevice] = []
    for number, language in enumerate(plan.languages):
        tell(f"homes in {language}", number / len(plan.languages))
        devices += _of_language(_Language(package, language), homes, plan)
    if len(devices) < wanted:
        raise DataError(
            f"too few homes with enough to say: {len(devices)} of {wanted}",
            hint="ask for fewer --users, for more languages, or for fewer bytes in each split (--least)",
        )
    devices = sorted(devices, key=lambda device: position(device.author, plan.seed))[:wanted]
    devices.sort(key=lambda device: (plan.languages.index(device.language), device.name))
    labels = sorted({text.text.rpartition("intent: ")[2] for device in devices for text in device.texts})
    return tuple(devices), _provenance(package, plan), tuple(labels)


class _Language:
    """The templates of one language, and the words that they leave open."""

    def __init__(self, package: Packaged, language: str) -> None:
        words = _words().get(language)
        if words is None:
            raise DataError(
                f"no words for homes in this language: {language}", hint=f"there are {', '.join(LANGUAGES)}"
            )
        self.code = language
        self.words = {name: tuple(value.split("; ")) for name, value in words.items()}
        data = json.loads(package.read(f"data/{language}.json"))
        self.rules: dict[str, str] = data["expansion_rules"]
        self.lists = {name: values for name, one in data["lists"].items() if (values := _values(one))}
        self.templates = tuple(_templates(language, data["intents"]))

    def grammar(self, home: str, domain: str) -> Grammar:
        """Return what a home can fill into templates: some rooms, and some devices of the domain."""
        own = {
            name: tuple(sorted(words, key=lambda word: position(f"{home}|{word}", ""))[: 1 + len(words) // 2])
            for name, words in self.words.items()
        }
        own |= {wildcard: own[name] for wildcard, name in _WILDCARDS.items()}
        names = {"name": own[domain]} if domain in own else {}
        return Grammar(rules=self.rules, lists={**own, **self.lists, **names})


def _of_language(language: _Language, homes: int, plan: SetPlan) -> Iterator[DemoDevice]:
    seen: set[str] = set()
    for number, device_class in product(range(1, homes + 1), _ASKED):
        name = f"{language.code}-{device_class}-{number}"
        texts = choose_texts(
            tuple(_pieces(language, device_class, name, plan.seed, seen)), plan.seed, plan.budget
        )
        if texts is not None:
            yield DemoDevice(
                name=name,
                author=hashed(name, plan.seed),
                language=language.code,
                translated=False,
                label="requests to a home, made from templates",
                device_class=device_class,
                rank=RANKS[device_class],
                texts=texts,
            )


def _pieces(language: _Language, device_class: str, home: str, seed: str, seen: set[str]) -> Iterator[Piece]:
    """Yield what one home says to a device; nothing that another home of the language said."""
    grammars = {domain: language.grammar(f"{seed}|{home}", domain) for domain in _ASKED[device_class]}
    for template in language.templates:
        if template.domain not in grammars or position(f"{home}|{template.key}", seed) >= _SAID:
            continue
        for number in range(_SENTENCES):
            key = f"{seed}|{home}|{template.key}|{number}"
            sentence = grammars[template.domain].sentence(template.sentence, key)
            if sentence and normalised(sentence) not in seen:
                seen.add(normalised(sentence))
                text = f"{sentence}\nintent: {template.intent}"
                yield Piece(author=home, source=template.key, text=text)


def _templates(language: str, intents: Mapping[str, Any]) -> Iterator[Template]:
    for intent, one in sorted(intents.items()):
        for block, data in enumerate(one["data"]):
            for number, sentence in enumerate(data["sentences"]):
                yield Template(
                    key=f"{language}/{intent}/{block}/{number}",
                    sentence=sentence,
                    intent=intent,
                    domain=_domain(intent, data),
                )


def _domain(intent: str, data: Mapping[str, Any]) -> str:
    """Return what a template is about; empty if it does not say."""
    named = data.get("slots", {}).get("domain") or data.get("requires_context", {}).get("domain")
    if isinstance(named, list):
        named = named[0]
    if isinstance(named, str):
        return named
    if intent.endswith(("Timer", "Timers", "TimerStatus")):
        return "timer"
    return next((domain for prefix, domain in _DOMAINS if intent.startswith(prefix)), "")


def _values(one: Mapping[str, Any]) -> Sequence[str]:
    """Return what can stand for a list: its values, or some numbers of its range."""
    if "values" in one:
        return [value["in"] if isinstance(value, dict) else str(value) for value in one["values"]]
    if "range" not in one:
        return ()
    low, high, step = one["range"]["from"], one["range"]["to"], one["range"].get("step", 1)
    numbers = range(int(low), int(high) + 1, int(step))
    return [str(number) for number in numbers[:: -(-len(numbers) // _NUMBERS_MAX)]]


@cache
def _words() -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parent / "homes.toml").read_text(encoding="utf-8"))


def _provenance(package: Packaged, plan: SetPlan) -> dict[str, Any]:
    return {
        "source": "home-assistant-intents",
        "version": package.version,
        "files": package.files,
        "seed": plan.seed,
        "command": f"{COMMAND} {plan.options}",
        "licence": LICENCE,
    }
