"""Hundreds of users from Debian's package descriptions: one user, one maintainer, one language.

Set-up as in `debian`, with three differences: no paragraph occurs twice in any two languages; lots are drawn
again for authors with few packages; and devices are named by the author's hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimo_fed.data.archive import ORIGINAL, Archive, Tell, label_of, silent
from mimo_fed.data.corpus import DemoDevice
from mimo_fed.data.debian import COMMAND
from mimo_fed.data.seen import Seen
from mimo_fed.data.users import SetPlan, fitting, share_out, user_device


def build_maintainers(
    folder: Path, suite: str, plan: SetPlan, tell: Tell = silent
) -> tuple[tuple[DemoDevice, ...], dict[str, Any]]:
    """Build a set of maintainers from a folder of index files.

    Args:
        folder: as `Archive` reads it.
        suite: codename.
        plan: which users.
        tell: told what is going on.

    Returns:
        The devices, language by language, and where their texts come from.

    Raises:
        DataError: an index is missing, damaged or of another day, or there are too few authors.
    """
    tell("packages and their maintainers", 0.0)
    archive, seen = Archive(folder, suite), Seen()
    fits = {}
    for number, language in enumerate(plan.languages, start=1):
        tell(f"maintainers in {language}", number / (len(plan.languages) + 1))
        fits[language] = fitting(archive.pieces(language, seen), plan)
    devices = tuple(
        user_device(
            author,
            texts,
            language=language,
            translated=language != ORIGINAL,
            label=label_of(language),
            seed=plan.seed,
        )
        for language, authors in share_out(fits, plan).items()
        for author, texts in authors.items()
    )
    used = [text.package for device in devices for text in device.texts]
    command = f"{COMMAND} --suite {suite} {plan.options}"
    return devices, archive.provenance(used, seed=plan.seed, command=command)
