"""Working memory of a training step at J = 20 against J = 1, by the compiled programs."""

import jax

from benchmarks.workload import Comparison, training_program

BATCH_SIZE, STEPS = 64, 2


def measure() -> list[Comparison]:
    """The linear model and the conv model."""
    return [
        _compare("linear", "patches.py:thresholded_laplacian", (256,)),
        _compare("Fashion-MNIST conv", "fmnist.py:thresholded_gaussian", (28, 28, 1)),
    ]


def _compare(name: str, config: str, shape: tuple[int, ...]) -> Comparison:
    sizes = {}
    for num_samples in (1, 20):
        overrides = {"batch_size": BATCH_SIZE, "num_samples": num_samples, "num_latents": 256}
        feed, state = training_program(config, overrides, shape, STEPS)
        analysis = jax.jit(feed.run_epoch).lower(state).compile().memory_analysis()
        assert analysis is not None
        sizes[num_samples] = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
    return Comparison(
        workload=f"memory of a {name} step and its state, J=20",
        opponent="J=1",
        ours=sizes[20] / 2**20,
        theirs=sizes[1] / 2**20,
        unit="MiB",
        ours_first=None,
        target=1.3,
        at_most=True,
    )
