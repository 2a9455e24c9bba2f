"""Settings without an upper end: what they would take is told before any of it is taken."""

import pytest
from models import small_config
from rich.console import Console

from jvsc import errors
from jvsc.errors import UserError, machine_memory
from jvsc.runs.needs import check_chunk, check_needs
from jvsc.runs.train import train


@pytest.mark.parametrize(
    "changes",
    [
        {"num_latents": 10**10},
        {"num_samples": 10**9},
        {"num_samples": 10**30},
        {"encoder__hidden": (10**6, 10**6)},
        {"data__num_train": 10**12},
        {"eval__num_edges": 10**30},
        {"eval__snr_draws": 10**12},
    ],
)
def test_what_the_machine_has_not_is_refused_with_its_size(changes, tmp_path):
    (name,) = changes
    with pytest.raises(UserError, match=r"would take [0-9,]+ GB, and this machine has") as told:
        train(small_config(**changes), tmp_path / "run", Console(quiet=True))
    assert name.replace("__", ".") in str(told.value)
    assert not (tmp_path / "run").exists()


def test_draws_that_all_have_a_gradient_are_held_at_once():
    given = {"num_samples": 10**9, "sampling_chunk": 1}
    check_needs(small_config(**given))
    for sampling in ("avg", "iwae"):
        with pytest.raises(UserError, match="num_samples"):
            check_needs(small_config(**given, sampling=sampling))


def test_a_run_that_fits_is_not_refused(monkeypatch):
    check_needs(small_config())
    monkeypatch.setattr(errors, "machine_memory", lambda: 100)
    with pytest.raises(UserError):
        check_needs(small_config())
    with pytest.raises(UserError, match=r"eval\.chunk: would take"):
        check_chunk(small_config(), 64)
    assert 10**8 < machine_memory() < 10**15


@pytest.mark.parametrize(
    "changes", [{"seeds": (2**63,)}, {"eval__seed": 10**30}, {"data__seed": 2**64}]
)
def test_a_seed_too_large_is_refused(changes):
    with pytest.raises(UserError, match=r"seed.*< 2\^63"):
        small_config(**changes)
    small_config(seeds=(2**63 - 1,))
