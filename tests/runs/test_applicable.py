"""What is said of the settings that a run reads, beside the programs that it compiles."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import partial_eval
from models import nested

from jvsc.model.methods import METHODS
from jvsc.runs.applicable import readers_of
from jvsc.runs.config import Config, make_config
from jvsc.runs.factories import build_model, build_optimizer
from jvsc.runs.factories.models import build_online_step
from jvsc.training.batches import make_prepare
from jvsc.training.epoch import make_steps, no_metrics
from jvsc.training.mesh import DATA_AXIS, make_mesh
from jvsc.training.state import init_state

# A value of each setting beside the one that it has below.
OTHERS = {
    "num_samples": 3,
    "sampling": "iwae",
    "sampling_chunk": 1,
    "estimator": "subgradient",
    "kl_weight": 0.03,
    "compute_dtype": "bfloat16",
    "encoder.name": "linear",
    "encoder.steps": 2,
    "encoder.corrects": True,
    "encoder.support_steps": 1,
    "encoder.optimizer": "adam",
    "encoder.schedule": "constant",
    "encoder.hidden": (7,),
    "encoder.learning_rate": 0.02,
    "encoder.momentum": 0.8,
    "encoder.weight_decay": 0.1,
    "encoder.max_gradient_norm": 2.0,
    "encoder.start_at_prior": True,
    "generator.optimizer": "adam",
    "generator.schedule": "one_cycle",
    "generator.max_gradient_norm": 2.0,
    "generator.unit_norm": True,
    "generator.start": "data",
    "generator.learning_rate": 0.3,
    "generator.decay": 0.9,
    "generator.initial_norm": 2.0,
    "generator.frobenius": 0.1,
    "prior.scale": 0.3,
    "prior.variance": 0.3,
    "prior.threshold_concentration": 4.0,
    "prior.threshold_kl_weight": 0.3,
    "prior.learns_scale": False,
    "prior.learns_sparsity": False,
    "noise.rule": "learned",
    "noise.variance": 0.5,
    "noise.control_until": 0.5,
    "annealing.warmup_start": 0.3,
    "annealing.warmup_begin": 7,
    "annealing.warmup_increment": 0.3,
    "annealing.kl_warmup_steps": 7,
    "annealing.kl_warmup_share": 0.5,
    "annealing.temperature_decay": 0.5,
    "annealing.temperature_minimum": 0.7,
    "autoencoder.penalty": 3.0,
    "autoencoder.penalty_warmup_steps": 7,
    "autoencoder.active": 3,
    "autoencoder.auxiliary_active": 3,
    "autoencoder.auxiliary_weight": 0.3,
    "autoencoder.dead_after": 10,
    "autoencoder.bandwidth": 0.3,
    "autoencoder.initial_threshold": 0.3,
    "autoencoder.target_active": 3,
    "autoencoder.prefixes": (0.5, 1.0),
    "fista.tolerance": 0.3,
    "fista.max_iterations": 7,
    "fista.warmup_start": 0.3,
    "fista.warmup_increment": 0.3,
}
IMAGES = {"data.name": "fashion_mnist"}
# Runs that between them read every setting.
RUNS = {
    **{name: {"method": name} for name in METHODS},
    "unrolled": {"method": "inferred_threshold", "encoder.name": "unrolled"},
    "exact": {"method": "inferred_threshold", "sampling": "exact"},
    "fista_images": {"method": "fista", **IMAGES},
    "inferred_threshold_images": {"method": "inferred_threshold", **IMAGES},
    "thresholded_gaussian_images": {"method": "thresholded_gaussian", **IMAGES},
}
SMALL = {
    "seeds": (0,),
    "num_latents": 6,
    "batch_size": 4,
    "num_epochs": 2,
    "num_samples": 1,
    "data.num_train": 8,
    "encoder.hidden": (5,),
    "autoencoder.active": 2,
    "autoencoder.auxiliary_active": 2,
}


def config_of(run, **changes) -> Config:
    draws = {} if run == "exact" else {"num_samples": 2}
    return make_config(nested({**SMALL, **draws, **RUNS[run], **changes}, "."))


def refused(run, key) -> bool:
    """Whether the settings themselves say that this one is not for the run."""
    try:
        config_of(run, **{key: OTHERS[key]})
    except ValueError:
        return True
    return False


def program(function, *arguments) -> str:
    """What a function computes of what it returns, its constants among it."""
    closed = jax.make_jaxpr(function)(*arguments)
    return f"{without_dead_code(closed.jaxpr)} {closed.consts}"


def without_dead_code(jaxpr):
    """A program without what nothing reads, its inner programs too."""
    if hasattr(jaxpr, "consts"):
        return jaxpr.replace(jaxpr=without_dead_code(jaxpr.jaxpr))
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    return used.replace(
        eqns=[
            equation.replace(params={k: cleaned(v) for k, v in equation.params.items()})
            for equation in used.eqns
        ]
    )


def cleaned(value):
    if isinstance(value, tuple):
        return tuple(map(cleaned, value))
    return (
        without_dead_code(value) if hasattr(value, "outvars") or hasattr(value, "jaxpr") else value
    )


def programs(config: Config) -> list[str]:
    """What a run compiles to begin, to train, and to infer codes."""
    num_features = 784 if config.has_network_generator else 9
    shape = (28, 28) if config.has_network_generator else (3, 3)
    mesh = make_mesh()
    model = build_model(config, num_features, DATA_AXIS, training=True)
    optimizer = build_optimizer(config, config.steps_per_epoch)

    def begin(keys):
        return jax.vmap(lambda key: init_state(key, model, optimizer))(keys)

    keys = jax.random.key(0)[None]
    states = jax.eval_shape(begin, keys)
    data = jax.ShapeDtypeStruct((8, num_features), jnp.float32)
    texts = [program(begin, keys)]
    if config.generator.start == "data" and model.generator.is_dictionary:
        texts.append("atoms of data")
    if config.learns_online:
        texts.append(str(build_online_step(config)))
    else:
        prepare = make_prepare(shape, False)
        steps = make_steps(model.loss, optimizer, config.batch_size, prepare, mesh)
        metrics, place = no_metrics(1, config.steps_per_epoch, mesh), jnp.int32(0)
        texts.append(program(steps, states, metrics, data, place, place))
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)
    model = build_model(config, num_features)
    draws = jax.random.split(jax.random.key(1), 8)
    texts.append(program(model.infer, one.parameters, one.statistics, data, draws))
    return texts


@cache
def usual_programs(run) -> list[str]:
    return programs(config_of(run))


@pytest.mark.parametrize("run", RUNS)
def test_settings_that_do_not_apply_change_no_program(run):
    config = config_of(run)
    keys = [key for key in OTHERS if readers_of(key, config) and not refused(run, key)]
    if run == "fista":  # an optimiser of no parameters
        keys = [key for key in keys if not key.startswith("encoder.")]
    changed = config_of(run, **{key: OTHERS[key] for key in keys})
    assert keys
    assert programs(changed) == usual_programs(run)


@pytest.mark.slow
@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("run", RUNS)
def test_a_setting_that_applies_changes_a_program(run, key):
    if readers_of(key, config_of(run)) or refused(run, key):
        return
    assert programs(config_of(run, **{key: OTHERS[key]})) != usual_programs(run)
