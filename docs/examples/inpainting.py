"""Fills in the half of a photograph's pixels that is missing, by patches.

    python docs/examples/inpainting.py [--picture=inpainted.png] [--num-train=20000]
        [--max-iter=PASSES]

The photograph comes with scikit-learn. The dictionary is learned of its own patches, with their
missing pixels, so nothing else is known of it. About two minutes on two cores.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.image import reconstruct_from_patches_2d

from jvsc import SparseCoder
from jvsc.runs.report.figures import draw_images

PATCH = (8, 8)


def main() -> None:
    """Fits, fills, says how well, and draws the photograph before and after."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--picture", type=Path, default="inpainted.png", help="to write")
    arguments.add_argument("--num-train", type=int, default=20_000)
    arguments.add_argument("--max-iter", type=int, help="passes over the patches")
    given = arguments.parse_args()

    photograph = load_sample_image("china.jpg")[100:228, 220:348].mean(axis=2) / 255
    random = np.random.default_rng(0)
    missing = random.random(photograph.shape) < 0.5
    holes = np.where(missing, np.nan, photograph)

    patches = np.lib.stride_tricks.sliding_window_view(holes, PATCH).reshape(-1, np.prod(PATCH))
    chosen = random.permutation(len(patches))[: given.num_train]
    coder = SparseCoder(
        128, sparsity=0.05, allow_nan=True, max_iter=given.max_iter, random_state=0
    ).fit(patches[chosen])
    filled = coder.inverse_transform(coder.transform(patches)).reshape(-1, *PATCH)
    # A pixel is the mean of what all patches with it say.
    filled = np.where(missing, reconstruct_from_patches_2d(filled, holes.shape), photograph)

    left = np.var((filled - photograph)[missing]) / np.var(photograph[missing])
    print(f"variance of the missing pixels explained: {1 - left:.1%}")
    pictures = np.stack([np.nan_to_num(holes), filled, photograph]).reshape(3, -1)
    draw_images(pictures, photograph.shape, given.picture)
    print(f"the photograph with holes, filled, and as it was: {given.picture}")


if __name__ == "__main__":
    main()
