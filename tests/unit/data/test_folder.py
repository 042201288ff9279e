import json
import shutil
from pathlib import Path

import pytest

from mimo_fed.data import SPLITS
from mimo_fed.data.extract import DEMO_FOLDER, load_demo
from mimo_fed.data.folder import load_devices
from mimo_fed.errors import DataError


def write(path: Path, *lines: object) -> None:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))


def test_a_set_with_a_manifest_is_loaded_and_checked(tmp_path: Path) -> None:
    assert load_devices(DEMO_FOLDER) == load_demo()
    shutil.copytree(DEMO_FOLDER, tmp_path / "set")
    (tmp_path / "set" / "red-phone.jsonl").write_text('{"text": "other", "split": "train"}\n')
    with pytest.raises(DataError, match="not those of the manifest"):
        load_devices(tmp_path / "set")


def test_one_file_is_one_device(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {"text": "one", "split": "train"}, "", {"text": "two", "split": "test"})
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    about = {"device": {"language": "it", "device_class": "watch", "rank": 4}}
    write(tmp_path / "a.jsonl", about, {"messages": chat, "split": "validation"})
    first, second = load_devices(tmp_path)
    assert (first.name, first.language, first.device_class, first.rank) == ("a", "it", "watch", 4)
    assert first.corpus.validation == ("user: hello\nassistant: good day",)
    assert (second.name, second.language, second.device_class, second.rank) == ("b", "und", "phone", 16)
    assert (second.corpus.train, second.corpus.test) == (("one",), ("two",))
    assert first.author != second.author


def test_texts_without_a_split_get_one_by_their_hash(tmp_path: Path) -> None:
    lines = [{"text": f"text {number}"} for number in range(400)]
    write(tmp_path / "a.jsonl", *lines, lines[0])
    write(tmp_path / "b.jsonl", *reversed(lines))
    first, second = load_devices(tmp_path)
    where = {text.text: text.split for text in first.texts}
    assert where == {text.text: text.split for text in second.texts}
    assert [text.text for text in first.texts] == [f"text {number}" for number in range(400)] + ["text 0"]
    for split, share in zip(SPLITS, (0.60, 0.15, 0.25), strict=True):
        assert abs(list(where.values()).count(split) / 400 - share) < 0.07
    other = load_devices(tmp_path, seed="other")[0]
    assert {text.text: text.split for text in other.texts} != where


def test_few_texts_fill_every_split_and_fewer_are_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *({"text": f"text {number}"} for number in range(3)))
    write(tmp_path / "b.jsonl", {"text": "one"}, {"text": "two"}, {"text": "one"})
    first, second = load_devices(tmp_path)
    assert {text.split for text in first.texts} == set(SPLITS)
    assert second.corpus.train == ("one", "two", "one")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({}, '"text" or "messages"'),
        ({"text": "a", "messages": []}, '"text" or "messages"'),
        ({"text": " "}, "no text"),
        ({"text": 3}, "no text"),
        ({"text": "a", "txt": 1}, "'txt'"),
        ({"text": "a", "split": "dev"}, "'dev'"),
        ({"messages": []}, "not a list"),
        ({"messages": "hello"}, "not a list"),
        ({"messages": ["hello"]}, "role and a content"),
        ({"messages": [{"role": "user"}]}, "role and a content"),
        ({"device": {}}, "unknown key 'device'"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_number(tmp_path: Path, line: object, said: str) -> None:
    write(tmp_path / "me.jsonl", {"text": "a"}, "", line)
    with pytest.raises(DataError, match=rf"{said}.*me\.jsonl, line 3"):
        load_devices(tmp_path)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": True}, "rank"),
        ({"rank": "8"}, "rank"),
        ({"device_class": "toaster"}, "toaster"),
        ({"language": 3}, "language"),
        ({"colour": "red"}, "colour"),
        ("phone", "object"),
    ],
)
def test_a_bad_device_line_is_refused(tmp_path: Path, device: object, said: str) -> None:
    write(tmp_path / "me.jsonl", {"device": device}, {"text": "a"})
    with pytest.raises(DataError, match=rf"{said}.*me\.jsonl, line 1"):
        load_devices(tmp_path)


def test_an_empty_folder_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="no devices") as caught:
            load_devices(folder)
        assert "mimo-fed data build" in caught.value.hint
    write(tmp_path / "me.jsonl", {"device": {"rank": 4}})
    with pytest.raises(DataError, match=r"no texts: .*me\.jsonl"):
        load_devices(tmp_path)
    (tmp_path / "me.jsonl").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(DataError, match="UTF-8 at byte 10"):
        load_devices(tmp_path)
