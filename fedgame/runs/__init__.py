"""Runs of experiments: directories that are written whole, resumed and swept. Knows no game.

experiment  the contract of an experiment: prepare, compute, show
settings    what the user chose, checked against the limits of each field
workdir     the directory of one run
files       which file of it is what
cells       texts as cells of its CSV files
snapshots   the state of unfinished training runs
scalars     numbers over rounds, for TensorBoard
jobs        many stored computations, several at a time, with a progress bar
sweep       the product of settings of any experiment, one run per variant
"""
