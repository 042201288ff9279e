from pathlib import Path

import pytest

from mimo_fed.data.corpus import SPLITS, Text
from mimo_fed.data.maintainers import build_maintainers
from mimo_fed.data.splits import Budget
from mimo_fed.data.users import SetPlan, fitting, share_out, user_device
from mimo_fed.errors import DataError
from tests.unit.data.archive import SUITE, write_archive
from tests.unit.data.test_splits import piece

TEXTS = (Text(text="a", split="train"),)
MANY = {f"author {number}": TEXTS for number in range(60)}
FEW = dict(list(MANY.items())[:8])


def test_every_author_has_one_language_and_rare_languages_come_first() -> None:
    chosen = share_out({"en": MANY, "it": MANY, "ja": FEW}, SetPlan(users=30))
    authors = [author for found in chosen.values() for author in found]
    assert len(authors) == len(set(authors)) == 30
    assert list(chosen) == ["en", "it", "ja"]
    assert [len(found) for found in chosen.values()] == [11, 11, 8]


def test_places_that_a_rare_language_cannot_fill_go_to_the_others() -> None:
    assert sum(map(len, share_out({"en": MANY, "ja": FEW}, SetPlan(users=60)).values())) == 60
    everyone = share_out({"en": MANY, "ja": FEW}, SetPlan())
    assert sum(map(len, everyone.values())) == 60
    assert len(everyone["ja"]) == 8


def test_other_users_with_another_seed_and_the_same_with_the_same() -> None:
    one, again, other = (share_out({"en": MANY}, SetPlan(users=20, seed=seed)) for seed in ("a", "a", "b"))
    assert one == again
    assert one["en"].keys() != other["en"].keys()


def test_too_few_users_say_how_many_there_are() -> None:
    with pytest.raises(DataError, match="8 of 9") as caught:
        share_out({"ja": FEW}, SetPlan(users=9))
    assert "--least" in caught.value.hint
    with pytest.raises(DataError):
        share_out({"ja": {}}, SetPlan())
    with pytest.raises(DataError):
        SetPlan(users=-1)


def test_authors_without_enough_for_every_split_do_not_fit() -> None:
    plan = SetPlan(budget=Budget(train=(700, 1300), validation=(300, 500), test=(300, 500)))
    assert set(fitting([piece(f"p{number}") for number in range(5)], plan)) == {"somebody"}
    assert fitting([piece(f"p{number}") for number in range(3)], plan) == {}


def test_a_users_device_hides_the_name() -> None:
    device = user_device("Ada Quux", TEXTS, language="it", translated=True, label="words", seed="s")
    assert device.name == f"it-{device.author}"
    assert len(device.author) == 10
    assert "Quux" not in repr(device)
    assert (device.translated, device.label, device.texts) == (True, "words", TEXTS)


def test_maintainers_are_in_one_language_and_no_paragraph_is_in_two_places(tmp_path: Path) -> None:
    write_archive(tmp_path)
    plan = SetPlan(languages=("en", "it"))
    devices, provenance = build_maintainers(tmp_path, SUITE, plan)
    assert build_maintainers(tmp_path, SUITE, plan)[0] == devices
    assert len({device.author for device in devices}) == len(devices) == 3
    assert {device.language for device in devices} == {"en", "it"}
    assert all(device.translated == (device.language == "it") for device in devices)
    assert all(("translations" in device.label) == device.translated for device in devices)
    found = [p for device in devices for text in device.texts for p in text.text.split("\n\n")]
    assert len(found) == len(set(found))
    for device in devices:
        for split in SPLITS:
            low, high = plan.budget.of(split)
            assert low <= sum(len(t.text.encode()) for t in device.texts if t.split == split) <= high
    assert provenance["checked_against_release"]
    assert len(provenance["files"]) == 3
    with pytest.raises(DataError, match="too few users"):
        build_maintainers(tmp_path, SUITE, SetPlan(users=4, languages=("en", "it")))
