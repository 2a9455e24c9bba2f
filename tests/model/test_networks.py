"""Encoders and generators: widths, initialisation."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import assert_trees_equal, image_config

from jvsc.errors import UserError
from jvsc.kernels.convolutions import convolve
from jvsc.model.networks import (
    ARCHITECTURES,
    conv_encoder,
    conv_generator,
    dictionary_generator,
    mlp_encoder,
)
from jvsc.model.networks.convolutional import LifetimeSparseGate
from jvsc.runs.factories.models import compute_dtype


def test_the_patches_encoder_is_that_of_table_3():
    encoder = mlp_encoder(256, 256, ("loc", "log_scale"))
    parameters, statistics = encoder.init(jax.random.key(0))
    widths = [parameters[f"hidden_{i}"]["Dense_0"]["kernel"].shape for i in range(4)]
    assert widths == [(256, 512), (512, 1024), (1024, 512), (512, 256)]
    heads, _ = encoder.apply(parameters, statistics, jnp.zeros((3, 256)), True)
    assert {name: head.shape for name, head in heads.items()} == {
        "loc": (3, 256),
        "log_scale": (3, 256),
    }


def test_weights_and_biases_start_uniform_within_one_over_root_fan_in():
    parameters, _ = mlp_encoder(256, 256, ("loc",)).init(jax.random.key(1))
    for fan_in, layer in ((256, "hidden_0"), (512, "hidden_1"), (256, "loc")):
        for values in jax.tree.leaves(parameters[layer]):
            assert np.abs(values).max() <= fan_in**-0.5
            assert np.abs(values).max() > 0.98 * fan_in**-0.5
            np.testing.assert_allclose(values.std(), (3 * fan_in) ** -0.5, rtol=0.1)


def test_atoms_start_with_unit_norm_and_generate_their_weighted_sum():
    generator = dictionary_generator(16, 40)
    dictionary, _ = generator.init(jax.random.key(2))
    np.testing.assert_allclose(jnp.linalg.norm(dictionary, axis=1), 1.0, rtol=1e-5)
    codes = jax.random.normal(jax.random.key(3), (2, 5, 40))
    np.testing.assert_allclose(
        generator.apply(dictionary, {}, codes, True)[0],
        np.einsum("jbk,kd->jbd", codes, dictionary),
        atol=1e-5,
    )


def test_the_last_layers_are_not_activated():
    encoder = mlp_encoder(16, 50, ("loc",))
    variables = encoder.init(jax.random.key(4))
    loc = encoder.apply(*variables, jnp.ones((4, 16)), True)[0]["loc"]
    assert (loc < 0).any()
    assert (loc > 0).any()


# Conv networks


HEADS = ("loc", "log_scale")


def compiled(apply):
    """A network's forward pass as one program; whether it trains is known when that is traced."""
    return jax.jit(apply, static_argnums=3)


@pytest.mark.parametrize(
    ("name", "codes", "features"),
    [("fashion_mnist", 20, 128), pytest.param("celeba", 64, 256, marks=pytest.mark.slow)],
)
def test_conv_networks_have_the_layers_of_section_5(name, codes, features):
    architecture = ARCHITECTURES[name]
    encoder = conv_encoder(architecture, codes, HEADS)
    generator = conv_generator(architecture, codes)
    parameters, statistics = encoder.init(jax.random.key(0))
    assert parameters["loc"]["Dense_0"]["kernel"].shape == (features, codes)
    num_pixels = int(np.prod(architecture.shape))
    heads, _ = compiled(encoder.apply)(parameters, statistics, jnp.ones((2, num_pixels)), True)
    assert {head: values.shape for head, values in heads.items()} == dict.fromkeys(
        HEADS, (2, codes)
    )
    variables = generator.init(jax.random.key(1))
    images, _ = compiled(generator.apply)(*variables, jnp.ones((3, 2, codes)), False)
    assert images.shape == (3, 2, num_pixels)
    assert ((images >= 0) & (images <= 1)).all()


def test_conv_parameters_are_counted_as_in_section_5():
    """4x4 kernels and biases, two numbers a feature map for BatchNorm; computed by hand."""
    architecture = ARCHITECTURES["fashion_mnist"]
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    generator, _ = conv_generator(architecture, 20).init(jax.random.key(0))
    maps = [(128, 128), (128, 64), (64, 64), (64, 1)]
    expected = 20 * 128 + 128 + sum(16 * a * b + b for a, b in maps) + 2 * (128 + 64 + 64)
    assert size(generator) == expected


def test_training_normalises_by_the_batch_and_moves_the_averages_a_tenth_of_the_way():
    architecture = ARCHITECTURES["fashion_mnist"]
    encoder = conv_encoder(architecture, 8, ("loc",))
    parameters, statistics = encoder.init(jax.random.key(0))
    data = jax.random.uniform(jax.random.key(1), (6, 784))
    _, moved = compiled(encoder.apply)(parameters, statistics, data, True)
    _, kept = compiled(encoder.apply)(parameters, statistics, data, False)
    first = parameters["convolution_0"]
    maps = convolve(data.reshape(6, 28, 28, 1), first["kernel"], 2, 1) + first["bias"]
    name = ("normalisation_0", "BatchNorm_0")
    np.testing.assert_allclose(
        moved[name[0]][name[1]]["mean"], 0.1 * maps.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        moved[name[0]][name[1]]["var"], 0.9 + 0.1 * maps.var((0, 1, 2)), rtol=1e-4
    )
    assert_trees_equal(kept, statistics)


def test_bfloat16_networks_keep_parameters_statistics_and_heads_in_float32():
    architecture = ARCHITECTURES["fashion_mnist"]
    data = jax.random.uniform(jax.random.key(1), (16, 784))
    heads = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        encoder = conv_encoder(architecture, 8, ("loc",), dtype=dtype)
        variables = encoder.init(jax.random.key(0))
        heads[dtype], moved = compiled(encoder.apply)(*variables, data, True)
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, moved, heads[dtype]))} == {
            jnp.dtype("float32")
        }
    difference = np.abs(heads[jnp.float32]["loc"] - heads[jnp.bfloat16]["loc"]).max()
    assert 0 < difference < 0.05 * np.abs(heads[jnp.float32]["loc"]).max()


def test_double_precision_that_jax_would_drop_is_refused():
    with pytest.raises(UserError, match="set JAX_ENABLE_X64=1"):
        compute_dtype(image_config(compute_dtype="float64"))


def test_offsets_are_added_to_the_heads_they_belong_to():
    heads = ("loc", "log_scale")
    plain = mlp_encoder(9, 5, heads, hidden=(7,))
    moved = mlp_encoder(9, 5, heads, hidden=(7,), offsets=(0.0, -3.0))
    parameters, statistics = plain.init(jax.random.key(0))
    data = jax.random.normal(jax.random.key(1), (4, 9))
    one, _ = plain.apply(parameters, statistics, data, False)
    other, _ = moved.apply(parameters, statistics, data, False)
    np.testing.assert_array_equal(one["loc"], other["loc"])
    np.testing.assert_allclose(one["log_scale"] - 3, other["log_scale"], rtol=1e-6)


def test_each_latents_gate_is_open_for_the_wanted_share_of_normal_inputs():
    """Wherever they lie and however wide: within six standard errors, 0.003 for 4,000 data.

    It is less than a binomial share's, as the batch has its own moments. Were shares normal, one of
    80 million keys would fail. At a mean of 10,000 float32 rounds to 0.001 of a deviation of 1.
    """
    gate = LifetimeSparseGate(sparsity=0.1, axis_name=None)
    widths, means = np.float32([0.1, 1, 10, 100, 1]), np.float32([100, 0, -3000, 5, 1e4])
    inputs = jax.random.normal(jax.random.key(0), (4000, 5)) * widths + means
    variables = gate.init(jax.random.key(1), inputs, False)
    made, _ = gate.apply(variables, inputs, True, mutable=["batch_stats"])
    np.testing.assert_allclose(np.mean(np.asarray(made) > 0, axis=0), 0.1, atol=0.018)


def test_no_gate_is_open_for_more_than_cantellis_share_of_a_batch():
    encoder = conv_encoder(
        ARCHITECTURES["fashion_mnist"], 5, ("loc", "gate"), lifetime_sparsity=0.2
    )
    parameters, statistics = encoder.init(jax.random.key(0))
    parameters["gate"]["Dense_0"]["bias"] += 100.0
    data = jax.random.uniform(jax.random.key(1), (64, 784))
    apply = jax.jit(encoder.apply, static_argnums=3)
    heads, after = apply(parameters, statistics, data, True)
    most = 1 / (1 + NormalDist().inv_cdf(0.8) ** 2)
    assert (np.mean(np.asarray(heads["gate"]) > 0, axis=0) <= most).all()
    for _ in range(100):  # the running averages come to what the batch has
        _, after = apply(parameters, after, data, True)
    inferred, _ = apply(parameters, after, data, False)
    # A mean of 100 leaves gates that hardly vary yet few digits.
    np.testing.assert_allclose(inferred["gate"], heads["gate"], atol=0.1)


@pytest.mark.parametrize(
    ("heads", "share", "told"),
    [(("loc", "log_scale"), 0.1, "with a gate"), (("loc", "gate"), 0.5, "share below 1/2")],
)
def test_lifetime_sparsity_without_a_gate_or_share_is_refused(heads, share, told):
    with pytest.raises(UserError, match=told):
        conv_encoder(ARCHITECTURES["fashion_mnist"], 5, heads, lifetime_sparsity=share)
