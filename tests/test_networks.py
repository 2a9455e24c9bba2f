"""Encoders and generators: widths, initialisation."""

import jax
import jax.numpy as jnp
import numpy as np

from jvsc.networks import dictionary_generator, mlp_encoder


def test_the_patches_encoder_is_that_of_table_3():
    encoder = mlp_encoder(256, 256, ("loc", "log_scale"))
    parameters = encoder.init(jax.random.key(0))
    widths = [parameters[f"hidden_{i}"]["Dense_0"]["kernel"].shape for i in range(4)]
    assert widths == [(256, 512), (512, 1024), (1024, 512), (512, 256)]
    heads = encoder.apply(parameters, jnp.zeros((3, 256)))
    assert {name: head.shape for name, head in heads.items()} == {
        "loc": (3, 256),
        "log_scale": (3, 256),
    }


def test_weights_and_biases_start_uniform_within_one_over_root_fan_in():
    parameters = mlp_encoder(256, 256, ("loc",)).init(jax.random.key(1))
    for fan_in, layer in ((256, "hidden_0"), (512, "hidden_1"), (256, "loc")):
        for values in jax.tree.leaves(parameters[layer]):
            assert np.abs(values).max() <= fan_in**-0.5
            assert np.abs(values).max() > 0.98 * fan_in**-0.5
            np.testing.assert_allclose(values.std(), (3 * fan_in) ** -0.5, rtol=0.1)


def test_atoms_start_with_unit_norm_and_generate_their_weighted_sum():
    generator = dictionary_generator(16, 40)
    dictionary = generator.init(jax.random.key(2))
    np.testing.assert_allclose(jnp.linalg.norm(dictionary, axis=1), 1.0, rtol=1e-5)
    codes = jax.random.normal(jax.random.key(3), (2, 5, 40))
    np.testing.assert_allclose(
        generator.apply(dictionary, codes),
        np.einsum("jbk,kd->jbd", codes, dictionary),
        atol=1e-5,
    )


def test_the_last_layers_are_not_activated():
    encoder = mlp_encoder(16, 50, ("loc",))
    loc = encoder.apply(encoder.init(jax.random.key(4)), jnp.ones((4, 16)))["loc"]
    assert (loc < 0).any()
    assert (loc > 0).any()
