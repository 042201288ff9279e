"""What the coordinator does with an opened round: the next adapter from the last one and the means.

In: the global adapter and, per opened shell, the weighted mean of the updates; where a round is cut into
random groups, one such mean for each group. Out: the next global adapter.

Does not know: any single update, who contributed, or how the sums were opened.
"""

from mimo_fed.aggregate.mean import step
from mimo_fed.aggregate.robust import MIN_GROUPS, Rule, num_trimmed, robust_mean
from mimo_fed.aggregate.staleness import staleness_scale

__all__ = ["MIN_GROUPS", "Rule", "num_trimmed", "robust_mean", "staleness_scale", "step"]
