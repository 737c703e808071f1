"""People's own files, to a game.

columns       CSV files with named columns, and complaints by line
agents        participants
measurements  learning curves
read          all of it, or numbers on the command line, to a scenario
"""
