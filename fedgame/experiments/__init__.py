"""A claim, measured.

config   every setting of the comparison
compare  Section 5 from end to end
tables   Table 1 and what lies behind it
plots    figures, from the tables' files
storage  a run's directory: written whole, resumable
"""
