"""Whether parts of one's own fit one another, the data and the optimiser, by shapes alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from jvsc.errors import UserError, refuse_beyond_memory
from jvsc.model.model import Model, StepMetrics
from jvsc.model.networks import Encoder, Generator
from jvsc.model.posteriors import Posterior
from jvsc.model.sampling import BY_MOMENTS, SAMPLINGS
from jvsc.model.variational import FULL_NOISE, Variational
from jvsc.runs.model_files import short_reason
from jvsc.runs.needs import FLOAT, draws_held
from jvsc.solvers.problem import whole_number
from jvsc.training.epoch import train_step
from jvsc.training.mesh import DATA_AXIS
from jvsc.training.state import init_state, initial_variables

_PARTS: dict[str, type] = {"generator": Generator, "posterior": Posterior, "encoder": Encoder}


def check_arguments(model: Any, optimizer: Any, callback: Any, key: Any) -> None:
    """Refuses what is of another kind than `jvsc.train` asks for.

    Raises:
      UserError: naming it.
    """
    if isinstance(model, type) or not isinstance(model, Model):
        raise UserError(
            f"model is {_named(model)}; give a Variational(generator, posterior, encoder), or "
            "another model of jvsc.model"
        )
    if isinstance(model, Variational):
        _check_kinds(model)
    if not (optimizer is None or isinstance(optimizer, optax.GradientTransformation)):
        raise UserError(f"optimizer is {_named(optimizer)}; give Optax's, such as optax.adam(1e-3)")
    if not (callback is None or callable(callback)):
        raise UserError(f"callback is {_named(callback)}; give a function of an Epoch, or None")
    is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not (key is None or (is_key and key.shape == ())):
        raise UserError(f"key is {_named(key)}; give one key, such as jax.random.key(0)")


def _check_kinds(model: Variational) -> None:
    for name, kind in _PARTS.items():
        part = getattr(model, name)
        if not isinstance(part, kind):
            raise UserError(
                f"the model's {name} is {_named(part)}; give {kind.__module__}.{kind.__name__}"
            )
    if model.sampling not in (*SAMPLINGS, *BY_MOMENTS):
        allowed = ", ".join((*SAMPLINGS, *BY_MOMENTS))
        raise UserError(f"the model's sampling is {model.sampling!r}; give one of {allowed}")
    whole_number(model.num_samples, "the model's num_samples", 1)
    if model.sampling in BY_MOMENTS and not model.posterior.has_moments:
        raise UserError(
            f"sampling={model.sampling!r} needs a posterior whose moments are known; give "
            f"sampling={SAMPLINGS[0]!r}"
        )
    if model.sampling == "exact" and not model.generator.is_dictionary:
        raise UserError("sampling='exact' needs a dictionary; give sampling='moments'")
    known = {"log_scale", "log_variance"}.intersection(model.posterior.heads)
    if model.encoder.reads_dictionary and not (model.generator.is_dictionary and known):
        raise UserError(
            "the encoder reads a dictionary and the scale of its codes' prior, which this "
            "generator or posterior has not; give another encoder, such as mlp_encoder"
        )


def _named(value: Any) -> str:
    """A value of a wrong kind, in few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    short = value is None or (isinstance(value, str | int | float) and len(text) < 40)
    return text if short else f"a {type(value).__name__}"


def check_parts(model: Variational, num_features: int, batch_size: int) -> None:
    """Looks whether encoder, posterior and generator fit one another and the data.

    Raises:
      UserError: if one of them fails, the encoder lacks a head of the posterior or gives it another
        shape, the posterior's codes or divergence have another, or the generator makes other data
        than are given, or the draws of a batch do not fit in memory.
    """

    def check(key: Key[Array, ""], data: Float[Array, "B D"]) -> None:
        for name in ("encoder", "generator"):
            with blamed(f"the {name}'s init"):
                made = getattr(model, name).init(key)
            _check_pair(made, f"{name}'s init", "its parameters")
        variables = initial_variables(key, model)
        with blamed(f"of 2 data of {num_features} columns the encoder's apply"):
            heads, _ = model.heads(*variables, data)
        heads = _checked_heads(heads, model.posterior)
        shape = next(iter(heads.values())).shape
        _check_posterior(model.posterior, key, heads, shape)
        if model.sampling not in BY_MOMENTS:
            draws = draws_held(model.num_samples, model.sampling_chunk, model.sampling)
            sizes = FLOAT * batch_size * draws * (shape[1] + num_features)
            refuse_beyond_memory({"num_samples and batch_size": sizes})
        with blamed(f"of 2 codes of {shape[1]} latents the generator's apply"):
            made = model.generate(*variables, jnp.zeros(shape))
        _check_pair(made, "generator's apply", "data")
        generated = made[0]
        if jnp.shape(generated) != data.shape:
            raise UserError(
                f"of 2 codes the generator makes data of shape {jnp.shape(generated)}, but the "
                f"data have {num_features} columns; let it make [2, {num_features}]"
            )

    example = jax.ShapeDtypeStruct((2, num_features), jnp.float32)
    jax.eval_shape(check, jax.random.key(0), example)


def _check_pair(made: Any, maker: str, first: str) -> None:
    if not (isinstance(made, tuple) and len(made) == 2):
        raise UserError(
            f"the {maker} gives {_named(made)}; give a pair, {first} and its statistics, which may "
            "be {}"
        )


def _checked_heads(heads: Any, posterior: Posterior) -> dict[str, Float[Array, "B K"]]:
    """The heads that a posterior reads."""
    names = posterior.heads
    given = list(heads) if isinstance(heads, Mapping) else []
    missing = [name for name in names if name not in given]
    if missing:
        raise UserError(
            f"the encoder gives the heads {', '.join(map(str, given)) or 'none'}, but the "
            f"posterior also reads {', '.join(missing)}; let the encoder give {', '.join(names)}"
        )
    shapes = {name: jnp.shape(heads[name]) for name in names}
    if len(set(shapes.values())) > 1 or any(len(x) != 2 or x[0] != 2 for x in shapes.values()):
        raise UserError(f"of 2 data the encoder's heads have the shapes {shapes}; give [2, K] each")
    return {name: heads[name] for name in names}


def _check_posterior(
    posterior: Posterior,
    key: Key[Array, ""],
    heads: dict[str, Float[Array, "B K"]],
    shape: tuple[int, ...],
) -> None:
    of_one = {name: head[0] for name, head in heads.items()}
    calls: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
        "sample_and_log_ratio": (lambda: posterior.sample(key, of_one, FULL_NOISE), shape[1:]),
        "kl": (lambda: posterior.kl(heads), shape),
    }
    for name, (call, wanted) in calls.items():
        with blamed(f"the posterior's {name}"):
            got = jnp.shape(call())
        if got != wanted:
            whose = "2 data" if name == "kl" else "one datum"
            raise UserError(
                f"of {whose} the posterior's {name} gives the shape {got}; give {list(wanted)}, "
                "a number a latent"
            )


def check_step(
    model: Model, optimizer: optax.GradientTransformation, batch_size: int, num_features: int
) -> None:
    """Looks whether a training step can be made, and leaves a state like the one before it.

    Raises:
      UserError: if it fails, or changes the shape or type of what it is given.
    """

    def step(key: Key[Array, ""], batch: Float[Array, "B D"]) -> None:
        with blamed("the start of model or optimizer"):
            before = init_state(key, model, optimizer)
        with blamed(f"a step of {batch_size} data"):
            after, metrics = train_step(before, batch, 0, model.loss, optimizer, _as_it_is)
        for name in ("parameters", "statistics", "optimizer"):
            _check_kept(name, getattr(before, name), getattr(after, name))
        if not isinstance(metrics, StepMetrics) or any(jnp.shape(x) for x in metrics):
            raise UserError("the model's loss gives no StepMetrics of numbers; see Model.loss")

    example = jax.ShapeDtypeStruct((1, batch_size, num_features), jnp.float32)
    # As a training has it, with the axis that devices share a batch along.
    spread = jax.vmap(step, in_axes=(None, 0), axis_name=DATA_AXIS)
    jax.eval_shape(spread, jax.random.key(0), example)


def _check_kept(name: str, before: Any, after: Any) -> None:
    """Refuses a part of the state that a step gives other shapes, types or containers."""
    types = _types(before), _types(after)
    structures = [str(jax.tree.structure(tree)) for tree in (before, after)]
    if types[0] != types[1]:
        first, then = _first_difference(*types)
    elif structures[0] != structures[1]:
        first, then = structures
    else:
        return
    raise UserError(f"a step makes {then} of {first} in the {name}; let it keep shapes and types")


def _as_it_is(data: Float[Array, "B D"], keys: Key[Array, " B"]) -> Float[Array, "B D"]:
    return data


def _types(tree: Any) -> dict[str, str]:
    """Shape and type of each leaf, by its place."""
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _first_difference(before: dict[str, str], after: dict[str, str]) -> tuple[str, str]:
    place = next(name for name in {**before, **after} if before.get(name) != after.get(name))
    first, then = before.get(place, "nothing"), after.get(place, "nothing")
    return f"{first} at {place}", then


@contextmanager
def blamed(part: str) -> Iterator[None]:
    """Names the part of a user's own that fails; its traceback stays below.

    Raises:
      UserError: in place of whatever fails within.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {short_reason(error)}"
        raise UserError(f"{part} fails ({reason[:200]}); mend it") from error
