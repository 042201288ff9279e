from pathlib import Path

import pytest

from mimo_fed.data import Text, read_corpus, write_corpus
from mimo_fed.data.corpus import read_texts
from mimo_fed.errors import DataError

TEXTS = (
    Text(text="Perché no?\n\nsecondo\u2028ancora", split="train", package="a"),
    Text(text="b", split="test"),
    Text(text="c", split="validation", package="c"),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    write_corpus(path, TEXTS)
    assert read_texts(path) == TEXTS
    corpus = read_corpus(path)
    assert (corpus.train, corpus.validation, corpus.test) == ((TEXTS[0].text,), ("c",), ("b",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"split": "train"}', "no text"),
        ('{"text": "  ", "split": "train"}', "no text"),
        ('{"text": 3, "split": "train"}', "no text"),
        ('{"text": "a", "split": "dev"}', "'dev'"),
        ('{"text": "a"}', "None"),
        ('{"text": "a", "split": ["train"]}', "not train"),
        ('{"text": "a", "split": "train", "txt": 1}', "'txt'"),
        ('{"text": "a", "split": "train", "package": 1}', "package"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a", "split": "train"}\n\n' + line + "\n")
    with pytest.raises(DataError, match=f"{said}.*line 3"):
        read_corpus(path)


def test_a_file_without_training_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    write_corpus(path, TEXTS[1:])
    with pytest.raises(DataError, match='no text with "split": "train"'):
        read_corpus(path)


def test_a_missing_file_and_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_corpus(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9", "split": "train"}')
    with pytest.raises(DataError, match="UTF-8 at byte 10"):
        read_corpus(tmp_path / "latin.jsonl")
