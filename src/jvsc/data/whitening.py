"""Whitening of photographs (Olshausen & Field 1996)."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy.fft import dctn, idctn
from skimage.color import rgb2gray, rgba2rgb
from skimage.util import img_as_float64

VARIANCE = 0.1
CUTOFF = 0.4


def as_grey(image: Shaped[np.ndarray, "H W *C"]) -> Float[np.ndarray, "H W"]:
    """A photograph of any depth as grey levels, float64: in [0, 1], or a float image's own."""
    if image.ndim == 3 and image.shape[2] == 4:
        image = rgba2rgb(image)
    if image.ndim == 3 and image.shape[2] == 3:
        image = rgb2gray(image)
    return img_as_float64(image[..., 0] if image.ndim == 3 else image)


def whiten(image: Float[np.ndarray, "H W"], cutoff: float = CUTOFF) -> Float[np.ndarray, "H W"]:
    """Flattens the spectrum of a grey image: filter |f| exp(-(f/f0)^4), variance 0.1.

    f0 is `cutoff` cycles a pixel, which is `cutoff` N cycles a picture of N pixels. The picture is
    mirrored at its borders first, so that the filter sees no edge where the opposite sides meet.

    Args:
      image: grey levels.
      cutoff: f0 in cycles a pixel.

    Returns:
      The whitened image, of the same shape, mean 0 and variance 0.1 (all zero for a flat image).
    """
    height, width = image.shape
    # The Fourier transform of the mirrored picture, as the cosine transform of the picture.
    frequency = np.hypot(
        np.arange(height)[:, None] / (2 * height), np.arange(width)[None, :] / (2 * width)
    )
    # A flat image has only rounding noise, which must not be scaled up into a signal.
    if np.ptp(image) <= 1e-12 * float(np.abs(image).max()):
        return np.zeros_like(image)
    spectrum = dctn(image - image.mean()) * frequency * np.exp(-((frequency / cutoff) ** 4))
    filtered = np.asarray(idctn(spectrum))
    filtered = filtered - filtered.mean()
    return filtered * (np.sqrt(VARIANCE) / filtered.std())
