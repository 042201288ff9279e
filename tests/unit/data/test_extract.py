"""What holds of the devices that come with the package, and of any folder of devices."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from mimo_fed.data import SPLITS, load_demo
from mimo_fed.data.extract import DEMO_FOLDER, MANIFEST, load_extract, load_manifest
from mimo_fed.errors import DataError

DEVICES = load_demo()


def test_eight_devices_of_eight_authors() -> None:
    assert [device.rank for device in DEVICES] == [4, 4, 8, 8, 16, 16, 16, 16]
    assert len({device.name for device in DEVICES}) == 8
    assert len({device.author for device in DEVICES}) == 8
    assert all(re.fullmatch(r"[0-9a-f]{10}", device.author) for device in DEVICES)


def test_two_languages_at_least_and_each_on_two_devices_and_labelled() -> None:
    languages = [device.language for device in DEVICES]
    assert len(set(languages)) >= 2
    assert all(languages.count(language) >= 2 for language in languages)
    for device in DEVICES:
        assert device.translated == (device.language != "en")
        assert ("translations" in device.label) == device.translated


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_every_split_has_its_bytes(device) -> None:
    sizes = {split: sum(len(t.text.encode()) for t in device.texts if t.split == split) for split in SPLITS}
    assert 5000 <= sizes["train"] <= 8000
    assert 900 <= sizes["validation"] <= 1300
    assert 1500 <= sizes["test"] <= 2000


def test_no_source_package_is_in_two_splits_or_on_two_devices() -> None:
    records = load_manifest(DEMO_FOLDER)["provenance"]["packages"]
    source = {record["package"]: record["source"] for record in records}
    places: dict[str, set[tuple[str, str]]] = {}
    for device in DEVICES:
        for text in device.texts:
            assert text.package
            places.setdefault(source[text.package], set()).add((device.name, text.split))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_paragraph_occurs_twice_anywhere() -> None:
    paragraphs = [p for device in DEVICES for text in device.texts for p in text.text.split("\n\n")]
    normal = [" ".join(paragraph.casefold().split()) for paragraph in paragraphs]
    assert len(set(normal)) == len(normal)


def test_no_addresses_no_links_and_no_words_of_authorship() -> None:
    refused = re.compile(r"@|://|www\.|©|\(c\)|copyright|written by|scritt[oa] da|écrite? par", re.IGNORECASE)
    for path in DEMO_FOLDER.glob("*.jsonl"):
        text = path.read_text(encoding="utf-8")
        assert refused.search(text) is None


def test_the_manifest_has_every_file_and_says_where_all_is_from() -> None:
    manifest = load_manifest(DEMO_FOLDER)
    assert {record["file"] for record in manifest["devices"]} == {p.name for p in DEMO_FOLDER.glob("*.jsonl")}
    for record in manifest["devices"]:
        assert hashlib.sha256((DEMO_FOLDER / record["file"]).read_bytes()).hexdigest() == record["sha256"]
    provenance = manifest["provenance"]
    assert provenance["checked_against_release"]
    assert provenance["suite"] == "bookworm"
    assert provenance["release_date"]
    assert "debian/copyright" in provenance["licence"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", file["sha256"]) for file in provenance["files"])
    assert "://" not in json.dumps(manifest)


def test_changed_texts_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "devices"
    shutil.copytree(DEMO_FOLDER, folder)
    assert load_extract(folder) == DEVICES
    with (folder / "red-phone.jsonl").open("a") as file:
        file.write('{"text": "one more", "split": "test"}\n')
    with pytest.raises(DataError, match=r"not those of the manifest.*red-phone\.jsonl"):
        load_extract(folder)
    (folder / "red-phone.jsonl").unlink()
    with pytest.raises(DataError, match="cannot read texts"):
        load_extract(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "mimo-fed devices 1"}', '{"format": "other"}'])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DataError, match="manifest"):
        load_extract(tmp_path)


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_extract(tmp_path)
    assert "mimo-fed data build" in caught.value.hint
