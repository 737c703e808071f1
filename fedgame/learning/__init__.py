"""The model that agents train (Sections 5.1-5.2).

data       images, and how they are dealt to agents
models     the CNN and VGG11
layers     convolution and pooling, by platform
local      one agent's SGD
federated  one round of federated averaging
curve      measures the public accuracy curve ã
"""
