from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError, DataError
from mimo_fed_client.corpus import PrivateCorpus
from mimo_fed_client.settings import load_settings

LEAST = """
device_id = "red-phone"
home = "state"
corpus = "/data/corpus.jsonl"
superlink = "127.0.0.1:9092"
registry_url = "http://127.0.0.1:8090"
root_file = "root.json"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def test_defaults_and_paths_from_the_files_folder(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, LEAST))
    assert settings.home == tmp_path / "state"
    assert settings.corpus == Path("/data/corpus.jsonl")
    assert settings.slots_folder == tmp_path / "compute"
    assert settings.policy.n_min_floor == 16
    assert not settings.policy.test_only
    assert settings.policy.policy().n_min_floor == 16


def test_tables(tmp_path: Path) -> None:
    text = LEAST + "rank = 16\n[policy]\nn_min_floor = 3\n[install]\nloss_bound = 0.2\nmeasure = true\n"
    settings = load_settings(write(tmp_path, text))
    assert settings.rank == 16
    assert settings.policy.test_only
    assert settings.install.loss_bound == 0.2
    assert settings.install.measure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "colour = 1\n", "colour"),
        (LEAST + "[policy]\nn_min = 3\n", "policy.n_min"),
        (LEAST + "[policy]\nn_min_floor = 1\n", "n_min_floor"),
        (LEAST + "rank = 0\n", "rank"),
        (LEAST + 'rank = "many"\n', "rank"),
        (LEAST.replace("red-phone", "../x"), "device_id"),
        (LEAST.replace('superlink = "127.0.0.1:9092"', ""), "superlink"),
        ("home = [", "TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def test_corpus_weighs_by_its_training_text_and_shows_no_word(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        '{"text": "' + "wort " * 400 + '", "split": "train"}\n{"text": "geheim", "split": "test"}\n'
    )
    corpus = PrivateCorpus.load(path)
    assert corpus.train_bytes == 2000
    assert corpus.weight(16) == 4
    assert corpus.weight(2) == 2
    assert corpus.held_out == corpus.train
    assert corpus.reported_on == ("geheim",)
    assert "wort" not in repr(corpus)
    assert "geheim" not in repr(corpus)


def test_corpus_without_training_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "a", "split": "test"}\n')
    with pytest.raises(DataError):
        PrivateCorpus.load(path)
