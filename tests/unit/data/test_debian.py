from pathlib import Path

import pytest

from mimo_fed.data.debian import Plan, build_devices
from mimo_fed.data.extract import load_extract, load_manifest, write_extract
from mimo_fed.data.people import hashed
from mimo_fed.errors import DataError
from tests.unit.data.archive import OTHER, PERSON, SUITE, TEAM, THIRD, write_archive

PLAN = Plan(languages={"it": 2, "en": 1}, suite=SUITE)


def test_devices_are_of_individuals_and_the_same_each_time(tmp_path: Path) -> None:
    write_archive(tmp_path / "plain")
    write_archive(tmp_path / "packed", compress=True)
    devices, provenance = build_devices(tmp_path / "plain", PLAN)
    assert build_devices(tmp_path / "packed", PLAN)[0] == devices
    assert {device.author for device in devices} == {
        hashed(name, PLAN.seed) for name in (PERSON, OTHER, THIRD)
    }
    assert hashed(TEAM, PLAN.seed) not in {device.author for device in devices}
    assert [(device.language, device.translated) for device in devices].count(("it", True)) == 2
    assert [(device.language, device.translated) for device in devices].count(("en", False)) == 1
    assert provenance["checked_against_release"]
    assert provenance["release_date"].startswith("Sat, 01 Feb 2025")


def test_nothing_written_names_a_person_or_a_host(tmp_path: Path) -> None:
    write_archive(tmp_path / "lists", extra=f"Ask {PERSON} about it.")
    write_extract(tmp_path / "out", *build_devices(tmp_path / "lists", PLAN))
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert "Quu" not in text
        assert "mirror.example" not in text
        assert "@" not in text
        assert str(tmp_path) not in text
    assert len(load_extract(tmp_path / "out")) == 3
    packages = load_manifest(tmp_path / "out")["provenance"]["packages"]
    used = {text.package for device in load_extract(tmp_path / "out") for text in device.texts}
    assert {record["package"] for record in packages} == used
    assert all(record["version"] == "1.0-1" for record in packages)


def test_an_index_of_another_day_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path)
    (path,) = tmp_path.glob("*Translation-it")
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="disagree on SHA-256"):
        build_devices(tmp_path, PLAN)
    next(tmp_path.glob("*InRelease")).unlink()
    assert not build_devices(tmp_path, PLAN)[1]["checked_against_release"]


def test_a_missing_translation_and_too_few_authors_say_so(tmp_path: Path) -> None:
    write_archive(tmp_path)
    with pytest.raises(DataError, match="no Translation-de file") as caught:
        build_devices(tmp_path, Plan(languages={"de": 1}, suite=SUITE))
    assert "Acquire::Languages" in caught.value.hint
    with pytest.raises(DataError, match="too few maintainers with enough text in it: 3"):
        build_devices(tmp_path, Plan(languages={"it": 4}, suite=SUITE))


def test_languages_are_spread_over_the_ranks() -> None:
    places = Plan(languages={"it": 4, "fr": 2, "en": 2}).places()
    assert [kind.rank for kind, _ in places] == [4, 4, 8, 8, 16, 16, 16, 16]
    for language in ("it", "fr", "en"):
        assert len({kind.rank for kind, code in places if code == language}) >= 2
    many = Plan(languages={"it": 12, "en": 8}).places()
    assert len({kind.name for kind, _ in many}) == 20


def test_a_plan_without_devices_is_refused() -> None:
    with pytest.raises(DataError):
        Plan(languages={})
    with pytest.raises(DataError):
        Plan(languages={"it": 0})
