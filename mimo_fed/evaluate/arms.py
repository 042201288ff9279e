"""The arms: the ways in which a user's adapter may come about, each on the same budget of optimizer steps.

A budget of S steps a user is shared out by an arm between the global adapter, the cohort's and the personal
one; what it spends on one it does not spend on another. So the arm with a personal adapter gives the global
one half of the steps that the arm without does, and wins only if its own text is worth that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from mimo_fed.config import SPARE_CYCLE, ScheduleConfig
from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.records import ENCRYPTED, Roles

Kind = Literal["base", "local", "federated", "sketch", "pooled"]
DEFAULT_CYCLE: Final = ScheduleConfig().cycle


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm.

    Attributes:
        name: in tables.
        kind: base: no adapter. local: a personal adapter alone. federated: rounds. sketch: rounds of two sums
            of products. pooled: all text in one place, which federated learning avoids; an oracle.
        says: what it is, in a sentence of the report.
        cycle: phases of the rounds.
        min_rank: the global adapter has the rank of the smallest device, in one shell.
        shares: parts of the budget for the global, the cohort's and the personal adapter.
        encrypted: the sums are opened by secure aggregation.
    """

    name: str
    kind: Kind
    says: str
    cycle: str = DEFAULT_CYCLE
    min_rank: bool = False
    shares: tuple[int, int, int] = (1, 0, 0)
    encrypted: bool = False

    @property
    def in_rounds(self) -> bool:
        """Whether it has rounds."""
        return self.kind in ("federated", "sketch")

    @property
    def has_cohorts(self) -> bool:
        """Whether it trains an adapter for every cohort."""
        return self.shares[1] > 0

    @property
    def has_personal(self) -> bool:
        """Whether it trains a personal adapter on every device."""
        return self.shares[2] > 0

    @property
    def plain(self) -> Arm:
        """The same arm without encryption: learning rates are tuned on it."""
        return replace(self, name=self.name.removesuffix(ENCRYPTED), encrypted=False)

    @property
    def parts(self) -> int:
        """Into how many equal parts it shares a budget out."""
        return sum(self.shares)


BASE: Final = Arm(name="base", kind="base", says="the frozen base, no adapter", shares=(0, 0, 0))
LOCAL: Final = Arm(
    name="local only",
    kind="local",
    says="a personal adapter trained on the user's own text alone, from scratch; its share lambda is picked "
    "on validation text, as everywhere",
    shares=(0, 0, 1),
)
FEDIT: Final = Arm(
    name="fedit",
    kind="federated",
    says="FedIT: both factors trained and averaged apart, which is inexact; rank of the smallest device",
    cycle="AB",
    min_rank=True,
)
B_ONLY: Final = Arm(name="b", kind="federated", says="phase B alone (FFA-LoRA)", cycle="B")
M_ONLY: Final = Arm(name="m", kind="federated", says="phase M alone, on the first basis (Fed-SB)", cycle="M")
SPARE: Final = Arm(
    name="spare", kind="federated", says=f"the cycle {SPARE_CYCLE}: least upload but for m", cycle=SPARE_CYCLE
)
DEFAULT: Final = Arm(name="default", kind="federated", says="the default: phases B and A in turn (RoLoRA)")
SKETCH: Final = Arm(
    name="sketch",
    kind="sketch",
    says="any local LoRA; two secure sums of products a round (FedASK)",
    cycle="AB",
)
COHORT: Final = replace(
    DEFAULT,
    name="default+cohort",
    says="half the steps on the global adapter, half on that of the language's cohort",
    shares=(1, 1, 0),
)
PERSONAL: Final = replace(
    DEFAULT,
    name="default+personal",
    says="half the steps on the global adapter; then, on top of it, half on a personal one",
    shares=(1, 0, 1),
)
FULL: Final = replace(
    DEFAULT,
    name="default+cohort+personal",
    says="a quarter of the steps on the global adapter, a quarter on the cohort's, half on a personal one",
    shares=(1, 1, 2),
)
POOLED: Final = Arm(
    name="pooled",
    kind="pooled",
    says="not private, an oracle: all users' training text shuffled into one trainer of a plain LoRA, which "
    "sees as much text as all devices together, in fewer and larger batches",
)
DEFAULT_ENCRYPTED: Final = replace(
    DEFAULT, name=DEFAULT.name + ENCRYPTED, says="the same, opened by secure aggregation", encrypted=True
)

ALL: Final = (
    BASE,
    LOCAL,
    FEDIT,
    B_ONLY,
    SPARE,
    M_ONLY,
    DEFAULT,
    SKETCH,
    COHORT,
    PERSONAL,
    FULL,
    POOLED,
    DEFAULT_ENCRYPTED,
)
MAIN: Final = (BASE, LOCAL, FEDIT, B_ONLY, DEFAULT, COHORT, PERSONAL, FULL, POOLED)
GROUPS: Final = {"all": ALL, "main": MAIN}


def parse_arms(text: str) -> tuple[Arm, ...]:
    """Read `main`, `all`, or names of arms with commas between; the base is always among them.

    A name may leave out its spaces: `local` is `local only`, and `x, encrypted` is written `x@encrypted`.

    Raises:
        ConfigError: there is no such arm, or one is named twice.
    """
    if text in GROUPS:
        return GROUPS[text]
    known = {short(arm): arm for arm in ALL}
    named = [part.strip() for part in text.split(",")]
    if unknown := [part for part in named if part not in known]:
        raise ConfigError(f"no such arm: {unknown[0]!r}", hint=f"main, all, or some of: {', '.join(known)}")
    if len(set(named)) < len(named):
        raise ConfigError(f"an arm is named twice: {text}")
    return tuple(arm for arm in ALL if short(arm) in {*named, short(BASE)})


def short(arm: Arm) -> str:
    """Return an arm's name as people type it."""
    return arm.name.replace(ENCRYPTED, "@encrypted").split(" ")[0]


def with_encryption(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms, and each that has rounds once more with encryption."""
    twins = [
        replace(
            arm, name=arm.name + ENCRYPTED, says=f"{arm.name}, opened by secure aggregation", encrypted=True
        )
        for arm in arms
        if arm.in_rounds and not arm.encrypted
    ]
    plain = [arm for arm in arms if not arm.encrypted]
    return (*plain, *twins)


def roles_of(arms: Sequence[Arm]) -> Roles:
    """Say which arm plays which part in the comparisons; without cohorts, the arms without them do."""
    names = {arm.name for arm in arms}
    cohorts = FULL.name in names or COHORT.name in names
    return Roles(
        base=BASE.name,
        local=LOCAL.name,
        shared=DEFAULT.name,
        cold=COHORT.name if cohorts else DEFAULT.name,
        full=FULL.name if cohorts else PERSONAL.name,
    )
