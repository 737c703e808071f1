"""A claim, measured: one command, one file, each with `prepare`, `compute` and `show`.

train        one federated run by itself
curve        the curve ã, measured and fitted
compare      Section 5 from end to end: contenders, table1, and the paper as printed
equilibrium  who contributes what in your own federation
mechanism    which payments fix it; over_beta: what other rates would do
studies      what happens as one thing changes
task         what all that train share: images, agents, network, local training, and their settings
trained      a trained model on disk, and ready to predict
rows         what several write in their rows
reference    every name that people write, as Markdown, from the code
"""
