"""Settings: defaults are the paper's, mistakes are named."""

import json
import runpy
from pathlib import Path

import pytest

from jvsc.errors import UserError
from jvsc.model.methods import METHODS, AutoencoderMethod
from jvsc.runs.config import Config, default_config, differences, make_config

PATCHES = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "patches.py"))


def patches(arguments=""):
    return make_config(PATCHES["get_config"](arguments).to_dict())


# The paper has neither the inferred threshold, the online lasso nor sparse autoencoders.
OF_THE_PAPER = [
    name
    for name, method in METHODS.items()
    if not isinstance(method, AutoencoderMethod) and name not in ("inferred_threshold", "lasso")
]


@pytest.mark.parametrize("method", OF_THE_PAPER)
def test_patches_config_holds_the_papers_settings(method):
    config = patches(method)
    assert config.method == method
    assert (config.num_epochs, config.batch_size, config.num_latents) == (300, 100, 256)
    assert (config.data.num_train, config.data.num_validation) == (80_000, 16_000)
    assert config.data.patch_size == 16
    assert (config.kl_weight, config.fista.penalty) == (1e-2, 20.0)
    assert (config.encoder.learning_rate, config.encoder.momentum) == (0.01, 0.9)
    assert (config.generator.learning_rate, config.generator.decay) == (0.5, 0.99)
    assert config.generator.frobenius == (1e-3 if method == "fista" else 1e-4)
    assert (config.prior.scale, config.prior.variance) == (0.1, 0.1)
    if "laplacian" in method and "thresholded" in method:
        assert config.hyperparameters().threshold == 0.25
    if "gaussian" in method and "thresholded" in method:
        assert config.hyperparameters().threshold == 0.52
    if method == "spike_and_slab":
        assert config.hyperparameters().sparsity == 0.1


def test_the_default_method_is_the_thresholded_laplacian():
    assert patches().method == "thresholded_laplacian"


def test_threshold_and_sparsity_follow_from_each_other():
    from_sparsity = make_config({"sparsity": 0.1}).hyperparameters()
    assert from_sparsity.threshold == pytest.approx(0.2303, abs=5e-5)
    from_threshold = make_config({"threshold": 0.25}).hyperparameters()
    assert from_threshold.sparsity == pytest.approx(0.0821, abs=5e-5)


MISTAKES = [
    ({"num_epoch": 3}, "did you mean 'num_epochs'"),
    ({"data": {"pth": ""}}, "did you mean 'data.path'"),
    ({"method": "thresholded_laplace"}, "did you mean 'thresholded_laplacian'"),
    ({"method": "zzz"}, "give one of batch_topk, fista, gaussian"),
    ({"num_epochs": 0}, "num_epochs is 0"),
    ({"num_epochs": 2.5}, "num_epochs is 2.5"),
    ({"num_epochs": "3"}, "num_epochs is '3'"),
    ({"num_epochs": True}, "num_epochs is True"),
    ({"num_samples": -1}, "num_samples is -1"),
    ({"batch_size": 100, "data": {"num_train": 50}}, "lower the one or raise the other"),
    ({"threshold": 0.0}, "threshold is 0.0"),
    ({"threshold": -0.25}, "threshold is -0.25"),
    ({"threshold": float("nan")}, "threshold is nan"),
    ({"sparsity": 0.0}, "sparsity is 0.0"),
    ({"sparsity": 1.0}, "sparsity is 1.0"),
    ({"sparsity": 0.1, "threshold": 0.25}, "give one of them"),
    ({"method": "gaussian", "threshold": 0.2}, "does not apply to gaussian"),
    ({"method": "laplacian", "sparsity": 0.2}, "does not apply to laplacian"),
    ({"method": "spike_and_slab", "estimator": "subgradient"}, "does not apply"),
    ({"method": "thresholded_gaussian", "estimator": "subgradient_published"}, "does not apply"),
    ({"eval": {"only_nonzeros": True}, "estimator": "subgradient_published"}, "does not apply"),
    ({"eval": {"only_nonzeros": True}, "sampling": "iwae"}, "does not apply to sampling=iwae"),
    ({"prior": {"scale": 0.0}}, "prior.scale is 0.0"),
    ({"prior": {"variance": -1.0}}, "prior.variance is -1.0"),
    ({"sampling": "mean"}, "'max', 'avg', 'iwae', 'exact' or 'moments'"),
    ({"estimator": "st"}, "'subgradient' or 'subgradient_published'"),
    ({"seeds": ()}, "one or more different"),
    ({"seeds": (1, 1)}, "one or more different"),
    ({"seeds": (-1,)}, "seeds.0 is -1"),
    ({"kl_weight": float("inf")}, "kl_weight is inf"),
    ({"data": 3}, "data is 3"),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_mistakes_are_refused_in_one_line_that_names_them(settings, message):
    with pytest.raises(UserError) as error:
        make_config(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_survive_json():
    config = make_config({"seeds": (0, 1, 2), "threshold": 0.25})
    assert make_config(json.loads(json.dumps(config.model_dump()))) == config


def test_config_dict_offers_every_setting():
    assert make_config(default_config().to_dict()) == Config()


def test_differences_name_the_keys():
    one = make_config({"num_epochs": 3, "eval": {"chunk": 10}})
    other = make_config({"num_epochs": 4, "data": {"path": "x.mat"}})
    assert differences(one, other, ignore=("eval",)) == [
        "data.path: '' -> 'x.mat'",
        "num_epochs: 3 -> 4",
    ]
