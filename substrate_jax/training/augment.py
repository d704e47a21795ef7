"""Random views of images for training: shifted and mirrored ones, and strongly changed ones.

`crop_and_flip` leaves pixels as they are: an image, padded by its reflection, is cut at a random
place and mirrored with probability 1/2. `random_view` is for contrastive learning: with area share
a ~ U(0.2, 1), and brightness b, contrast c and saturation s ~ U(0.6, 1.4),

    x = crop of side sqrt(a), resized, mirrored with probability 1/2
    x = b x,  x = c (x - mean) + mean,  x = s (x - gray) + gray,  clipped to [0, 1]

where mean is that of the image, gray that of a pixel's channels, and s = 0 with probability 1/5.

Every image has draws of its own, all from the one key. Cost: O(pixels), fused into the step.

References: T. Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
arXiv:2002.05709, whose views are blurred too and have their hue changed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

Images = UInt8[Array, "n s s 3"]


def crop_and_flip(key: Array, images: Images, padding: int = 4) -> Images:
    """Shift by up to `padding` pixels (edges reflected) and mirror half of the images.

    Args:
        key: of all draws.
        images: uint8 [n, s, s, 3].
        padding: most pixels to shift by, in each direction.

    Returns:
        uint8 [n, s, s, 3].
    """
    n, size = images.shape[:2]
    shift_key, flip_key = jax.random.split(key)
    wide = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), "reflect")
    corners = jax.random.randint(shift_key, (n, 2), 0, 2 * padding + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (size, size, 3))

    cropped = jax.vmap(crop)(wide, corners)
    mirrored = jax.random.bernoulli(flip_key, shape=(n, 1, 1, 1))
    return jnp.where(mirrored, cropped[:, :, ::-1], cropped)


def random_view(key: Array, images: Images) -> Float[Array, "n s s 3"]:
    """A resized crop of 20 to 100 % of the area, mirrored, recolored, sometimes gray.

    Args:
        key: of all draws.
        images: uint8 [n, s, s, 3].

    Returns:
        float32 [n, s, s, 3], in [0, 1].
    """
    keys = jax.random.split(key, len(images))
    return jax.vmap(_random_view)(keys, images)


def _random_view(key: Array, image: UInt8[Array, "s s 3"]) -> Float[Array, "s s 3"]:
    size = image.shape[0]
    keys = jax.random.split(key, 6)
    side = jnp.sqrt(jax.random.uniform(keys[0], minval=0.2, maxval=1.0))
    corner = jax.random.uniform(keys[1], (2,)) * (1 - side) * size
    x = jax.image.scale_and_translate(
        image.astype(jnp.float32) / 255,
        image.shape,
        (0, 1),
        jnp.stack([1 / side, 1 / side]),
        -corner / side,
        "linear",
        antialias=False,
    )
    x = jnp.where(jax.random.bernoulli(keys[2]), x[:, ::-1], x)
    brightness, contrast, saturation = jax.random.uniform(keys[3], (3,), minval=0.6, maxval=1.4)
    x = x * brightness
    mean = x.mean()
    x = (x - mean) * contrast + mean
    gray = x.mean(-1, keepdims=True)
    saturation = jnp.where(jax.random.bernoulli(keys[4], 0.2), 0.0, saturation)
    return jnp.clip((x - gray) * saturation + gray, 0, 1)
