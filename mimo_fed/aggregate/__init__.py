"""What the coordinator does with an opened round: the next adapter from the last one and the means.

In: the global adapter and, per opened shell, the weighted mean of the updates. Out: the next global adapter.

Does not know: any single update, who contributed, or how the sums were opened.
"""

from mimo_fed.aggregate.mean import step

__all__ = ["step"]
