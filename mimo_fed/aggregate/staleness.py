"""Let a late mean count for less.

Whoever trained from an older adapter moved from a point that the others have left. In a buffered round all
contributors to one sum started from the same adapter, so the scale multiplies that sum's mean, and no
device's own update has to be seen for it.
"""

from __future__ import annotations

import math

from mimo_fed.errors import ConfigError, SpecMismatch

MAX_STALENESS = 1 << 53
"""whole numbers up to here are exact as floats; no adapter is older"""


def staleness_scale(staleness: int, exponent: float = 0.5) -> float:
    """Return the factor for a mean that was trained some releases ago: (1 + staleness)^-exponent.

    Args:
        staleness: releases between the adapter the mean was trained from and the one it is applied to;
            0 for none.
        exponent: 0 counts a late mean in full; 0.5 is FedBuff's choice.

    Returns:
        In 0..1, exactly 1 for no staleness, and never more for a later mean.

    Raises:
        SpecMismatch: trained from an adapter that is not older than the present one, or no whole number.
        ConfigError: the exponent is negative or not finite.

    Ref: Xie, Koyejo, Gupta 2019 (asynchronous federated optimization, the polynomial scale); Nguyen et
    al. 2022 (FedBuff, exponent 1/2).
    """
    if not (math.isfinite(exponent) and exponent >= 0):
        raise ConfigError(f"exponent of the staleness must be finite and at least 0: {exponent}")
    if not isinstance(staleness, int) or not 0 <= staleness <= MAX_STALENESS:
        raise SpecMismatch(f"staleness must be a whole number of releases from 0: {staleness}")
    return float((1.0 + staleness) ** -exponent)
