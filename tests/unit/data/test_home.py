import json
from pathlib import Path

import pytest

from mimo_fed.data.home import LANGUAGES, build_homes
from mimo_fed.data.lots import RANKS
from mimo_fed.data.seen import normalised
from mimo_fed.data.splits import Budget
from mimo_fed.data.users import SetPlan
from mimo_fed.errors import DataError
from tests.unit.data.package import install

BUDGET = Budget(train=(200, 900), validation=(30, 300), test=(60, 500))
DOMAINS = {
    "HassTurnOn": {"slots": {"domain": "light"}},
    "HassTurnOff": {"requires_context": {"domain": ["cover", "valve"]}},
    "HassSetVolume": {},
    "HassStartTimer": {},
    "HassClimateGetTemperature": {},
}


def language() -> dict:
    """Return a language of forty templates an intent."""
    verbs = [f"{first}{second}" for first in ("ka", "ri", "to", "mu") for second in "bdfghjklmn"]
    sentences = {
        intent: [f"[<please>] {verb} {intent[4:].lower()} (in|at|of) {{area}} {{level}}" for verb in verbs]
        for intent in DOMAINS
    }
    return {
        "intents": {
            intent: {"data": [{"sentences": sentences[intent], **about}]} for intent, about in DOMAINS.items()
        },
        "lists": {"level": {"range": {"from": 0, "to": 100}}, "state": {"values": ["on", {"in": "off"}]}},
        "expansion_rules": {"please": "(please|kindly)"},
    }


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = install(tmp_path, monkeypatch, "home_assistant_intents", "home-assistant-intents", "2099.1.1")
    (made / "data").mkdir()
    for code in ("en", "it"):
        (made / "data" / f"{code}.json").write_text(json.dumps(language()))
    return made


def plan(users: int = 20) -> SetPlan:
    return SetPlan(users=users, languages=("en", "it"), budget=BUDGET)


@pytest.mark.usefixtures("package")
def test_homes_speak_all_languages_on_all_classes_and_each_says_what_nobody_else_does() -> None:
    devices, provenance, labels = build_homes(plan())
    assert build_homes(plan())[0] == devices
    assert len(devices) == 20
    assert {device.language for device in devices} == {"en", "it"}
    assert {device.device_class for device in devices} == set(RANKS)
    assert labels == tuple(sorted(DOMAINS))
    for code in ("en", "it"):
        said = [
            normalised(text.text.split("\n")[0])
            for device in devices
            for text in device.texts
            if device.language == code
        ]
        assert len(said) == len(set(said))
    assert provenance["version"] == "2099.1.1"
    assert [file["name"] for file in provenance["files"]] == [
        f"home_assistant_intents/data/{code}.json" for code in ("en", "it")
    ]


@pytest.mark.usefixtures("package")
def test_a_device_is_asked_for_its_own_things_and_the_intent_is_on_the_last_line() -> None:
    asked = {
        "phone": "HassTurnOn",
        "car": "HassTurnOff",
        "watch": "HassSetVolume",
        "fridge": "HassStartTimer",
    }
    for device in build_homes(plan())[0]:
        intents = {text.text.split("\nintent: ")[1] for text in device.texts}
        assert intents == {asked.get(device.device_class, "HassClimateGetTemperature")}
        assert device.rank == RANKS[device.device_class]
        assert all("{" not in text.text and "<" not in text.text for text in device.texts)


@pytest.mark.usefixtures("package")
def test_a_template_is_in_one_split_for_everybody() -> None:
    where: dict[tuple[str, str, str], set[str]] = {}
    for device in build_homes(plan(40))[0]:
        for text in device.texts:
            sentence, _, intent = text.text.partition("\nintent: ")
            verb = next(word for word in sentence.split() if word not in ("please", "kindly"))
            where.setdefault((device.language, intent, verb), set()).add(text.split)
    assert len(where) > 150
    assert {split for splits in where.values() for split in splits} == {"train", "validation", "test"}
    assert all(len(splits) == 1 for splits in where.values())


@pytest.mark.usefixtures("package")
def test_too_many_users_and_languages_without_words_are_refused() -> None:
    big = Budget(train=(90_000, 90_000), validation=(1, 9), test=(1, 9))
    with pytest.raises(DataError, match="too few homes"):
        build_homes(SetPlan(users=20, languages=("en", "it"), budget=big))
    with pytest.raises(DataError, match="no words for homes in this language: tlh"):
        build_homes(SetPlan(users=5, languages=("tlh",)))


def test_a_package_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(DataError, match="not installed: home-assistant-intents") as caught:
        build_homes(plan())
    assert "mimo-fed[data]" in caught.value.hint


def test_there_are_words_for_ten_languages() -> None:
    assert len(LANGUAGES) >= 10
