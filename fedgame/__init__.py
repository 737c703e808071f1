"""Incentives in federated learning, after Murhekar et al. (NeurIPS 2023).

games        what an agent wants
equilibria   where agents end up
mechanisms   what a server can add
learning     the model they train
protocols    who contributes what
experiments  a claim, measured
"""

__version__ = "0.2.0"
