"""A claim, measured.

settings, checks        settings of everything that trains, with their limits
training                one federated run by itself
curve                   the curve ã, measured and fitted
compare                 Section 5 from end to end: contenders, table1, paper, compare_plots
sweep, sweep_report     comparisons over a product of settings
studies                 what happens as one thing changes
inputs, scenario        your own federation: CSV files and numbers, to a game
equilibrium             who contributes what in it
mechanism, over_beta    which payments fix it, and what other rates would do
tables, reports, plots  rows and text; figures, from the files of a run alone
jobs, storage           stored computations with a progress bar; a run's directory, written whole, resumable
checkpoints             the state of unfinished training runs
reference               every name that people write, as Markdown, from the code
"""
