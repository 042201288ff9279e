"""From what many authors wrote to a set of users: who is in it, in which language, with which device.

Every author is in the set once. Languages that few authors have enough text in come first, so that they are
not left without users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mimo_fed.data.corpus import DemoDevice, Text
from mimo_fed.data.lots import RANKS, device_class_of, position
from mimo_fed.data.people import hashed
from mimo_fed.data.splits import SET_BUDGET, Budget, Piece, by_author, choose_texts
from mimo_fed.errors import DataError

DRAWS = 64
"""how often lots are drawn for the splits of one author"""


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """Which users to build.

    Raises:
        DataError: no user is wanted.
    """

    users: int = 0
    """so many; 0: all who have enough text"""
    languages: Sequence[str] = ()
    seed: str = "mimo-fed"
    budget: Budget = field(default=SET_BUDGET)

    def __post_init__(self) -> None:
        if self.users < 0:
            raise DataError(f"a set cannot have fewer than no users: {self.users}")

    @property
    def options(self) -> str:
        """The plan as options of the command."""
        least, most = (
            ",".join(
                str(bounds[end]) for bounds in (self.budget.train, self.budget.validation, self.budget.test)
            )
            for end in (0, 1)
        )
        users = f"--users {self.users} " if self.users else ""
        languages = f"--languages {','.join(self.languages)} " if self.languages else ""
        return f"{users}{languages}--least {least} --most {most} --seed {self.seed}"


def fitting(pieces: Iterable[Piece], plan: SetPlan) -> dict[str, tuple[Text, ...]]:
    """Return the texts of every author who has enough for every split, by author."""
    found = {}
    for author, wrote in by_author(pieces).items():
        texts = choose_texts(wrote, plan.seed, plan.budget, draws=DRAWS)
        if texts is not None:
            found[author] = texts
    return found


def share_out(
    fits: Mapping[str, Mapping[str, tuple[Text, ...]]], plan: SetPlan
) -> dict[str, dict[str, tuple[Text, ...]]]:
    """Give every author one language, and every language an equal part of the users as far as they go.

    Args:
        fits: texts by language and author.
        plan: how many users.

    Returns:
        Texts by language and author, no author twice, languages in the order of `fits`.

    Raises:
        DataError: there are fewer users than wanted.
    """
    everyone = set[str]().union(*fits.values())
    wanted = plan.users or len(everyone)
    if not wanted or len(everyone) < wanted:
        raise DataError(
            f"too few users with enough text: {len(everyone)} of {plan.users or 'any number'}",
            hint="ask for fewer --users, for more languages, or for fewer bytes in each split (--least)",
        )
    queue = sorted(fits, key=lambda language: len(fits[language]))
    taken: dict[str, str] = {}
    for number, language in enumerate(queue):
        _take(taken, language, fits[language], -(-(wanted - len(taken)) // (len(queue) - number)), plan.seed)
    for language in queue:
        _take(taken, language, fits[language], wanted - len(taken), plan.seed)
    return {
        language: {author: texts[author] for author in texts if taken.get(author) == language}
        for language, texts in fits.items()
    }


def _take(taken: dict[str, str], language: str, authors: Iterable[str], most: int, seed: str) -> None:
    """Give a language the first authors that no language has, in the order of their hashes."""
    free = sorted(
        (author for author in authors if author not in taken), key=lambda name: position(name, seed)
    )
    taken.update(dict.fromkeys(free[:most], language))


def user_device(
    author: str, texts: tuple[Text, ...], *, language: str, translated: bool, label: str, seed: str
) -> DemoDevice:
    """Make one user's device; its class, and with it its rank, is drawn by lot."""
    key = hashed(author, seed)
    device_class = device_class_of(key, seed)
    return DemoDevice(
        name=f"{language}-{key}",
        author=key,
        language=language,
        translated=translated,
        label=label,
        device_class=device_class,
        rank=RANKS[device_class],
        texts=texts,
    )
