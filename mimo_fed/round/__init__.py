"""The two drivers of a round, without transport, disk or clock: one stage a line.

`contribute.Contributor` answers for a device; `coordinate.Coordination` asks. What goes in: a `Device` that
trains, a `Journal` and a `RoundStore` that keep, a `Fleet` that carries bytes. What comes out: the weighted
mean of each rank shell. It does not know Flower, HTTP, torch or where anything is stored.

Beside them, functions of values alone: `cohort` says who is asked and when the others come back.
"""
