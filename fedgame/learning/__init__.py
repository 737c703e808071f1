"""The model that agents train (Sections 5.1-5.2).

data                    images: the digits, tensorflow-datasets, your own
image_files             your own, in a folder for each class
image_arrays            your own, in an .npz file
memory                  what fits into this machine
partitions              who holds which of them
preparation, downloads  raw files of MNIST and CIFAR to what tensorflow-datasets reads
models                  the CNN and VGG11
layers                  convolution and pooling, by platform
local                   one agent's SGD
federated               one round of federated averaging, on one device or many
trainer                 what all rounds share, and the one loop over them
evaluation              accuracy and loss of a model
curve                   measures the public accuracy curve ã
"""
