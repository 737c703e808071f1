"""The networks that agents train together: those of Section 5.2 for images, smaller ones for tables too."""

import dataclasses
import functools
import typing
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fedgame.learning import layers


class Convolution(nn.Module):
    """Convolution, 2×2 max pooling if asked for, bias, ReLU; He initialisation.

    Bias and ReLU come after pooling, on a quarter of the numbers: the result is the same.

    Attributes:
      channels: number of outputs.
      size: height and width of the kernel.
      pool: whether to pool.
      padding: "SAME" or "VALID".
      lowering: how to compute it, one of `layers.LOWERINGS`.
    """

    channels: int
    size: int
    pool: bool
    padding: str = "SAME"
    lowering: str = "auto"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', channels]."""
        shape = (self.size, self.size, images.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)
        convolve = layers.convolve_and_pool if self.pool else layers.convolve
        return nn.relu(convolve(images, kernel, self.padding, self.lowering) + bias)


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
      lowering: of both, one of `layers.LOWERINGS`.
    """

    classes: int = 10
    channels: tuple[int, int] = (10, 20)
    units: int = 50
    padding: str = "SAME"
    lowering: str = "auto"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits [b, classes] for images [b, h, w, c]."""
        smallest = 4 if self.padding == "SAME" else 16
        if min(images.shape[1:3]) < smallest:
            raise ValueError(
                f"the CNN with padding={self.padding} needs images of at least {smallest}×{smallest}, "
                f"got {images.shape[1:3]}"
            )
        x = images
        for channels in self.channels:
            x = Convolution(channels, 5, pool=True, padding=self.padding, lowering=self.lowering)(x)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(self.units, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(self.classes, kernel_init=nn.initializers.he_normal())(x)


class VGG11(nn.Module):
    """Eight 3×3 convolutions with ReLU, five of them followed by pooling (Simonyan and Zisserman 2014).

    The paper's model for CIFAR-10: configuration A without batch normalisation. Five poolings reduce 32×32
    images to one pixel, after which one linear layer is enough, as is common on CIFAR-10.

    Attributes:
      classes: number of outputs.
      units: widths of fully connected layers before the last; (4096, 4096) is the original.
      lowering: of the convolutions, one of `layers.LOWERINGS`.
    """

    classes: int = 10
    units: tuple[int, ...] = ()
    lowering: str = "auto"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits [b, classes] for images [b, h, w, c] of at least 32×32."""
        if min(images.shape[1:3]) < 32:
            raise ValueError(f"VGG11 needs images of at least 32×32, got {images.shape[1:3]}")
        x = images
        for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            for k, channels in enumerate(block, 1):
                x = Convolution(channels, 3, pool=k == len(block), lowering=self.lowering)(x)
        x = x.reshape(len(x), -1)
        for units in self.units:
            x = nn.relu(nn.Dense(units, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(self.classes, kernel_init=nn.initializers.he_normal())(x)


class Linear(nn.Module):
    """Logistic regression: logits are a linear function of the features. It starts at 0.

    Attributes:
      classes: number of outputs.
    """

    classes: int = 2

    @nn.compact
    def __call__(self, records: jax.Array) -> jax.Array:
        """Logits [b, classes] for records [b, ...], rows of a table or images."""
        flat = records.reshape(len(records), -1)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros)(flat)


class MLP(nn.Module):
    """A fully connected network with one hidden layer, ReLU; He initialisation.

    Attributes:
      classes: number of outputs.
      units: width of the hidden layer.
    """

    classes: int = 2
    units: int = 32

    @nn.compact
    def __call__(self, records: jax.Array) -> jax.Array:
        """Logits [b, classes] for records [b, ...], rows of a table or images."""
        flat = records.reshape(len(records), -1)
        hidden = nn.relu(nn.Dense(self.units, kernel_init=nn.initializers.he_normal())(flat))
        return nn.Dense(self.classes, kernel_init=nn.initializers.he_normal())(hidden)


Network = CNN | VGG11 | Linear | MLP
PRESETS: dict[str, Network] = {
    "cnn": CNN(),  # 54,840 parameters on 28×28 images
    "cnn_wide": CNN(channels=(32, 64), units=512),  # 1,663,370
    "vgg11": VGG11(),  # 9,225,610
    "vgg11_4096": VGG11(units=(4096, 4096)),  # 28,144,010, the original
    "linear": Linear(),
    "mlp": MLP(),
}


# Fields of networks that are not stored: Flax's own, and how it is computed, which depends on the machine.
_NOT_STORED = ("parent", "name", "lowering")


def to_dict(model: nn.Module) -> dict[str, Any] | None:
    """A network as JSON values, which `from_dict` reads; None if it is none of those in this module."""
    if type(model) not in typing.get_args(Network):
        return None
    names = [field.name for field in dataclasses.fields(model) if field.name not in _NOT_STORED]
    return {"network": type(model).__name__} | {name: getattr(model, name) for name in names}


def from_dict(about: dict[str, Any]) -> Network:
    """The network of which `to_dict` made this, for this machine; a `ValueError` if there is no such one."""
    kinds = {kind.__name__: kind for kind in typing.get_args(Network)}
    given = {name: tuple(x) if isinstance(x, list) else x for name, x in about.items() if name != "network"}
    if about["network"] not in kinds:
        raise ValueError(f"there is no network {about['network']!r}; there are {', '.join(kinds)}")
    return kinds[about["network"]](**given)


@functools.partial(jax.jit, static_argnames=("model", "image_shape"))
def initial_parameters(model: nn.Module, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Random initial parameters, float32, for images of shape [h, w, c], or rows of a table of shape [d]."""
    return model.init(key, jnp.zeros((1, *image_shape), jnp.float32))
