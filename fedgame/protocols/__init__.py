"""Who contributes what (Section 5.1).

base    a protocol: one contribution rule around federated rounds
fedavg  everything, always
mwfed   multiplicative weights (Blum et al. 2021)
fedbr   FedBR and FedBR-BG, Algorithms 2 and 1
"""
