"""Several processes that train one run together: how they find each other, and who writes."""

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jvsc.errors import EXIT_INTERRUPTED, UserError

# A process that has gone silent for so long is taken for dead, and the others stop.
HEARTBEAT_SECONDS = 60
# How long the others wait at the end for the one that evaluates.
SHUTDOWN_SECONDS = 24 * 3600
# Where processes leave word: with which code one failed, and that the first has ended its command.
_FAILED, _ENDED = "jvsc/failed", "jvsc/ended"
# They look so often; the first, which carries word, waits until they have.
_LOOK_SECONDS, _TELLING_SECONDS = 1.0, 3.0
# Set as this process ends by itself.
_ENDING = threading.Event()
# In the errors of Gloo, NCCL, JAX's coordination and Orbax's barriers.
_SIGNS_OF_LOSS = ("Gloo", "NCCL", "oordination", "heartbeat", "onnection", "barrier", "Barrier")
_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def start_processes(asked: bool) -> None:
    """Joins the processes of this run, before anything else touches a device.

    They are found from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID where these
    are set, else by JAX itself: under SLURM, Open MPI, and on TPU and GKE.

    Args:
      asked: whether the user asked for several; else only a SLURM step or a TPU pod of several
        processes is joined.

    Raises:
      UserError: if the processes cannot be found, or do not come.
    """
    if not asked and not _several_announced():
        return
    given = [name for name in (_ADDRESS, _COUNT, _INDEX) if name in os.environ]
    arguments = {}
    if given:
        missing = {_ADDRESS, _COUNT, _INDEX} - set(given)
        if missing:
            raise UserError(f"{', '.join(sorted(missing))} must be set too", "distributed")
        try:
            count, index = int(os.environ[_COUNT]), int(os.environ[_INDEX])
        except ValueError:
            reason = f"{_COUNT} and {_INDEX} must be whole numbers"
            raise UserError(reason, "distributed") from None
        arguments = {
            "coordinator_address": os.environ[_ADDRESS],
            "num_processes": count,
            "process_id": index,
        }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        jax.distributed.initialize(
            **arguments,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the processes were not found ({reason}); start one in each place with "
            f"{_ADDRESS}=HOST:PORT {_COUNT}=N {_INDEX}=0..N-1, or under SLURM by srun",
            "distributed",
        ) from None
    # JAX's preemption service has taken the signal over, and would swallow it before the training.
    signal.signal(signal.SIGTERM, handler)
    _end_when_another_fails()


def _messages() -> Any:
    """Where processes leave word for one another; None for a process alone.

    JAX has no public name for it. In one that keeps it elsewhere there is none: a process that
    fails is then waited for.
    """
    try:
        from jax._src.distributed import global_state
    except ImportError:
        return None
    return global_state.client


def _word(messages: Any, place: str) -> str | None:
    """What was left in a place; None as long as nothing is, "" if the first process is gone."""
    try:
        return messages.key_value_try_get(place)
    except Exception as error:
        return None if "NOT_FOUND" in str(error) else ""


def _end_when_another_fails() -> None:
    """Looks for word of a process that failed, and ends this one with the same code."""
    messages = _messages()
    if messages is None:
        return

    def look() -> None:
        while not _ENDING.wait(_LOOK_SECONDS):
            code = _word(messages, _FAILED)
            if code:
                os._exit(int(code))
            if code is not None:
                return

    watcher = threading.Thread(target=look, name="failures", daemon=True)
    watcher.start()

    # Python must not end while the thread is within JAX.
    @atexit.register
    def stop() -> None:
        _ENDING.set()
        watcher.join()


def fail_with_others(code: int, unexpected: BaseException | None = None) -> None:
    """Ends this process, if it is one of several, and the others with the same code.

    In good order it would wait for them at its end, and they for it where they train together.

    Args:
      code: of the exit.
      unexpected: an error that is shown first.
    """
    messages = _messages()
    if messages is None:
        return
    _ENDING.set()
    if unexpected is not None:
        traceback.print_exception(unexpected)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        messages.key_value_set(_FAILED, str(code), allow_overwrite=True)
        if is_first_process():
            time.sleep(_TELLING_SECONDS)
    except Exception:  # nobody is left to be told
        pass
    os._exit(code)


def tell_others_of_the_end() -> None:
    """Lets the others end, which wait in `wait_for_the_first`."""
    messages = _messages()
    if messages is not None:
        messages.key_value_set(_ENDED, "1", allow_overwrite=True)


def wait_for_the_first() -> None:
    """Returns when the first process has ended its command, whose evaluation is its own.

    Here a signal ends a process in good order; where JAX waits for the others, it would not.
    """
    messages = _messages()
    while messages is not None and _word(messages, _ENDED) is None:
        time.sleep(_LOOK_SECONDS)


def check_devices() -> None:
    """Refuses an environment in which JAX finds nothing to compute on.

    Raises:
      UserError: naming the variable that asks for what is not there.
    """
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        raise UserError("JAX_DISABLE_JIT: what jvsc does on devices has to be compiled; unset it")
    try:
        jax.devices()
    except Exception as error:  # a backend may raise anything, an AssertionError among others
        reason = (str(error).strip() or "no such device").splitlines()[0][:200]
        asked = {
            n: os.environ[n] for n in ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES") if n in os.environ
        }
        given = " ".join(f"{name}={value}" for name, value in asked.items()) or "this machine"
        raise UserError(
            f"{given}: JAX finds no device to compute on ({reason}); leave JAX_PLATFORMS out or "
            "set it to cpu, or install JAX for the device"
        ) from None


def _several_announced() -> bool:
    """Whether the environment speaks of several processes of this very command."""
    step = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return (step.isdigit() and int(step) > 1) or "," in hosts


def is_first_process() -> bool:
    """Whether this is the process that logs, draws, measures and tells."""
    return jax.process_index() == 0


def agree(stop: bool, count: int) -> tuple[bool, int]:
    """Whether at least one process wants to stop, and the least of their counts.

    All processes must ask together.
    """
    if jax.process_count() == 1:
        return stop, count
    given = np.reshape(multihost_utils.process_allgather(np.array([stop, count])), (-1, 2))
    return bool(given[:, 0].any()), int(given[:, 1].min())


@contextmanager
def ending_with_others() -> Iterator[None]:
    """Within it, a process that finds another one gone says so and ends at once.

    At once, for whatever an orderly end waits for needs the other. A process whose connections are
    silent instead of cut is ended by JAX, after HEARTBEAT_SECONDS, with JAX's words.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1 or not _is_of_connections(error):
            raise
        reason = " ".join(str(error).split())[:200]
        print(
            f"jvsc: another process of the run is gone ({reason}); start all of them again, and "
            "the run goes on from its newest checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_INTERRUPTED)


def _is_of_connections(error: BaseException | None) -> bool:
    """Whether an error, or what it grew from, is of the processes' way to each other."""
    while error is not None:
        if any(sign in str(error) for sign in _SIGNS_OF_LOSS):
            return True
        error = error.__cause__ or error.__context__
    return False


def wait_for_all(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def own_folder(workdir: Path, scratch: Path) -> Path:
    """Where this process writes logs and pictures: the workdir, or what is thrown away."""
    return workdir if is_first_process() else scratch
