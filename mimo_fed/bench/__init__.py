"""What secure aggregation costs, measured beside what others cost: `mimo-fed bench secagg`.

Goes in: a length, and how often to repeat. Comes out: one document of figures, goals and ratios, a table or a
figure of it.

Everything is timed in one run on one vector, in processor time, the order interleaved, so that a busy machine
slows all of it alike: the ratios hold where the times do not.

Read in this order: `cli` and `secagg` say what is measured; `parties` and `protocol` are ours; `plain`,
`ideal`, `flower` and `ckks` are what it is compared with, found by `comparators`; `clock` and `memory`
measure; `goals`, `machine`, `table`, `plot` and `progress` report.
"""
