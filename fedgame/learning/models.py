"""The networks that agents train together (Section 5.2)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import layers


class CNN(nn.Module):
    """Two 5×5 convolutions, two fully connected layers, ReLU (Section 5.2, MNIST).

    The paper gives no widths; these are the small ones common in federated learning. "SAME" padding
    lets the network take 8×8, 28×28 and 32×32 images alike.

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


def initial_parameters(model: nn.Module, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Fresh float32 parameters for images of shape [h, w, c]."""
    return model.init(key, jnp.zeros((1, *image_shape), jnp.float32))
