"""Learns a dictionary from photographs, and says what the codes are worth.

    python docs/examples/photographs.py [--atoms=atoms.png] [--num-train=40000] [--n-components=144]
        [--max-iter=PASSES]

The patches are whitened, of 12 x 12 pixels, from photographs that come with scikit-image and
scikit-learn. About two minutes on two cores.
"""

import argparse
from pathlib import Path

import numpy as np

from jvsc import SparseCoder
from jvsc.data import load_patches
from jvsc.runs.report.figures import draw_images


def main() -> None:
    """Fits, and prints and draws what was learned."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--atoms", type=Path, default="atoms.png", help="the picture to write")
    arguments.add_argument("--num-train", type=int, default=40_000)
    arguments.add_argument("--n-components", type=int, default=144)
    arguments.add_argument("--max-iter", type=int, help="passes over the patches")
    given = arguments.parse_args()

    patches = load_patches("", patch_size=12, num_train=given.num_train, num_validation=2_000)
    coder = SparseCoder(
        given.n_components, sparsity=0.1, max_iter=given.max_iter, random_state=0
    ).fit(patches.train)

    codes = coder.transform(patches.validation)
    print(f"non-zeros: {np.mean(codes != 0):.1%}")
    print(f"variance explained: {coder.score(patches.validation):.1%}")

    most_used = np.argsort(-np.count_nonzero(codes, axis=0))
    picture = draw_images(coder.components_[most_used], (12, 12), given.atoms, signed=True)
    print(f"the atoms, most used first: {picture}")


if __name__ == "__main__":
    main()
