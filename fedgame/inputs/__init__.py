"""From people's own files to a game.

columns       CSV files with named columns, and complaints by line
agents        participants
measurements  learning curves
mixtures      accuracies of models trained on mixtures of the members' samples
fits          rates and curves fitted to them
read          from these files, or from numbers on the command line, to a scenario
"""
