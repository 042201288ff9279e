from mimo_fed.data.seen import Seen, normalised
from tests.unit.data.archive import words


def test_the_same_words_are_seen_again_whatever_digits_and_capitals() -> None:
    seen = Seen()
    assert not seen.before("Version 3 of a tool")
    assert seen.before("version  41 OF a Tool")
    assert normalised("Ä 12") == "ä 0"


def test_mostly_the_same_runs_of_words_count_as_seen() -> None:
    seen, long = Seen(), words("long", 40)
    assert not seen.before(long)
    assert seen.before("And now: " + long)
    assert not seen.before(words("long", 6) + " " + words("other", 40))


def test_a_script_without_spaces_is_compared_by_characters() -> None:
    seen = Seen()
    first = "このパッケージはプログラムを動かすために必要な共有ライブラリを含んでいます。"
    assert not seen.before(first)
    assert seen.before("なお、" + first)
    assert not seen.before("利用者が写真を並べて眺めるための小さな道具で、設定は要りません。")
