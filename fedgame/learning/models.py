"""The networks that agents train together (Section 5.2)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import layers


class CNN(nn.Module):
    """Two 5×5 convolutions, two fully connected layers, ReLU (Section 5.2, MNIST).

    The paper gives no widths. The default is a small one common in federated learning; 32/64 channels and
    512 units are McMahan et al.'s (2017). "SAME" padding lets the network take 8×8, 28×28 and 32×32
    images alike.

    Attributes:
      classes: number of outputs.
      channels: outputs of the two convolutions.
      units: width of the first fully connected layer.
      padding: of both convolutions, "SAME" or "VALID".
    """

    classes: int = 10
    channels: tuple[int, int] = (10, 20)
    units: int = 50
    padding: str = "SAME"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits [b, classes] for images [b, h, w, c]."""
        he = nn.initializers.he_normal()
        x = images
        for channels in self.channels:
            x = nn.Conv(
                channels,
                (5, 5),
                padding=self.padding,
                kernel_init=he,
                conv_general_dilated=layers.convolution(),
            )(x)
            x = nn.relu(layers.max_pool(x))  # the same as pooling after ReLU, on a quarter of it
        x = nn.relu(nn.Dense(self.units, kernel_init=he)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(x)


class VGG11(nn.Module):
    """Eight 3×3 convolutions with ReLU, five of them followed by pooling (Simonyan and Zisserman 2014).

    The paper's model for CIFAR-10. Configuration A without batch normalisation, for 32×32 images, which
    five poolings leave one pixel of: then one linear layer is enough, as is common on CIFAR-10.

    Attributes:
      classes: number of outputs.
      units: widths of fully connected layers before the last; (4096, 4096) is the original.
    """

    classes: int = 10
    units: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits [b, classes] for images [b, h, w, c] of at least 32×32."""
        if min(images.shape[1:3]) < 32:
            raise ValueError(f"VGG11 needs images of at least 32×32, got {images.shape[1:3]}")
        he = nn.initializers.he_normal()
        x = images
        for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            for channels in block:
                convolve = layers.convolution()
                x = nn.relu(nn.Conv(channels, (3, 3), kernel_init=he, conv_general_dilated=convolve)(x))
            x = layers.max_pool(x)
        x = x.reshape(len(x), -1)
        for units in self.units:
            x = nn.relu(nn.Dense(units, kernel_init=he)(x))
        return nn.Dense(self.classes)(x)


def initial_parameters(model: nn.Module, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Fresh float32 parameters for images of shape [h, w, c]."""
    return model.init(key, jnp.zeros((1, *image_shape), jnp.float32))
