"""What the coordinator does with an opened round: the next adapter from the last one and the means.

In: the global adapter and, per opened shell, the weighted mean of the updates; where a round is cut into
random groups, one such mean for each group. Out: the next global adapter, and the optimizer's moments.

Does not know: any single update, who contributed, or how the sums were opened.
"""

from mimo_fed.aggregate import sketch
from mimo_fed.aggregate.advance import Advanced, advance, fed_nova_scale
from mimo_fed.aggregate.clip_norm import next_clip_norm
from mimo_fed.aggregate.moments import project
from mimo_fed.aggregate.robust import MIN_GROUPS, Rule, num_trimmed, robust_mean
from mimo_fed.aggregate.server import ServerState
from mimo_fed.aggregate.staleness import staleness_scale

__all__ = [
    "MIN_GROUPS",
    "Advanced",
    "Rule",
    "ServerState",
    "advance",
    "fed_nova_scale",
    "next_clip_norm",
    "num_trimmed",
    "project",
    "robust_mean",
    "sketch",
    "staleness_scale",
]
