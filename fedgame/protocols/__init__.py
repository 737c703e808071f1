"""Who contributes what (Section 5.1).

base        a protocol: a contribution rule and a training round
fedavg      everything, always
mwfed       multiplicative weights (Blum et al. 2021)
fedbr       FedBR and FedBR-BG, Algorithms 2 and 1, continuous; under any mechanism
literal     the same as printed, rounded in every step
first_best  the profile with the largest sum of utilities
afl, qffl   fair training on everything (Mohri et al. 2019; Li et al. 2020)
"""
