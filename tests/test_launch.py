"""What `launch/` holds is well formed, and starts jvsc as it is now."""

import copy
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from rich.console import Console

from jvsc.reproduce.command import execute, make_parser
from jvsc.runs.commandline import parse
from jvsc.runs.interruption import EXIT_INTERRUPTED
from jvsc.runs.logs import read_metrics

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
FILES = sorted(path for path in LAUNCH.rglob("*") if path.is_file() and path.name != "README.md")
SHELL_FILES = [ROOT / ".ci" / "run", *(p for p in FILES if p.suffix in (".sh", ".sbatch"))]
BATCH_FILES = sorted(LAUNCH.glob("slurm/*.sbatch"))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
JOB_SETS = sorted(set(LAUNCH.glob("gke/*.yaml")) - {LAUNCH / "gke" / "storage.yaml"})
TINY = (
    "num_samples=1 num_latents=16 data.patch_size=8 data.num_train=1000 "
    "data.num_validation=200 eval.num_validation=50 eval.iwae_samples=2 eval.snr_draws=2 "
    "eval.snr_batches=1 eval.jaccard_draws=2 eval.probe_train=50"
)


def name_of(path):
    return str(path.relative_to(ROOT))


def relative(paths):
    return pytest.mark.parametrize("path", paths, ids=map(name_of, paths))


def header(path):
    """What a file needs, and how it is started."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first, second = lines[1:3] if lines[0].startswith("#!") else lines[:2]
    assert first.startswith("# Needs: ")
    assert second.startswith("# Start: ")
    return first.removeprefix("# Needs: "), second.removeprefix("# Start: ")


@pytest.fixture
def stand_ins(tmp_path):
    """Programs that this machine need not have; each notes its arguments, then runs a script.

    A function from a program's name and its script to a function that gives the calls so far.
    """
    folder = tmp_path / "bin"
    folder.mkdir()

    class Calls:
        def __init__(self, name, script):
            self.file = tmp_path / f"{name}.calls"
            self.file.touch()
            (folder / name).write_text(
                f'#!/usr/bin/env bash\n(printf "%q " "$@"; echo) >>{self.file}\n{script}\n'
            )
            (folder / name).chmod(0o755)

        def __call__(self):
            return [shlex.split(line) for line in self.file.read_text().splitlines()]

    return Calls


def run_script(path, *arguments, tmp_path, **environment):
    """Runs a script in the repository, with the stand-ins before everything else."""
    return subprocess.run(
        [path, *arguments] if os.access(path, os.X_OK) else ["bash", path, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@relative(FILES)
def test_every_file_says_what_it_needs_and_how_it_is_started(path):
    needs, start = header(path)
    assert needs
    assert path.name in start or path.suffix == ".py"


@relative(SHELL_FILES)
def test_shell_files_are_free_of_known_mistakes(path):
    subprocess.run(["bash", "-n", path], check=True)
    checked = subprocess.run(
        [SHELLCHECK, "--external-sources", path], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def check_job_set(manifest):
    """Holds a JobSet to its own schema, and the Job within to Kubernetes' own."""
    # The model drops what it does not know.
    assert json.loads(JobsetV1alpha2JobSet.from_dict(manifest).to_json()) == manifest
    for replicated in manifest["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
        job |= {"spec": replicated["template"]["spec"]}
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


@relative(JOB_SETS)
def test_job_sets_fit_the_schemas_and_start_jvsc(path):
    manifest = yaml.safe_load(path.read_text())
    check_job_set(manifest)
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    [replicated] = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"][:3] == ["python", "-m", "jvsc.main"]
    assert parse([*container["command"][3:], *container["args"]]).distributed
    # A batch must divide by the chips.
    [chips] = container["resources"]["limits"].values()
    assert parse(container["args"]).config.batch_size % (chips * job["completions"]) == 0
    [claim] = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]]
    assert (
        claim == yaml.safe_load((LAUNCH / "gke" / "storage.yaml").read_text())["metadata"]["name"]
    )


def test_processes_on_kubernetes_are_counted_right():
    gpu = yaml.safe_load((LAUNCH / "gke" / "gpu.yaml").read_text())
    [replicated] = gpu["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    [count] = [e["value"] for e in container["env"] if e["name"] == "JAX_NUM_PROCESSES"]
    assert int(count) == job["parallelism"] == job["completions"]
    assert gpu["spec"]["coordinator"]["replicatedJob"] == replicated["name"]

    [replicated] = yaml.safe_load((LAUNCH / "gke" / "tpu.yaml").read_text())["spec"][
        "replicatedJobs"
    ]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    x, y = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert int(x) * int(y) == chips * job["parallelism"] == chips * job["completions"]


@pytest.mark.parametrize(
    "misspelled", ["spec.failurePolicy", "spec.replicatedJobs.0.template.spec.podFailurePolicy"]
)
def test_the_schemas_refuse_a_misspelled_key(misspelled):
    manifest = yaml.safe_load((LAUNCH / "gke" / "gpu.yaml").read_text())
    check_job_set(manifest)
    *sections, key = misspelled.split(".")
    place = manifest
    for section in sections:
        place = place[int(section) if section.isdigit() else section]
    place[key + "s"] = copy.deepcopy(place.pop(key))
    with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
        check_job_set(manifest)


def test_the_storage_fits_its_schema():
    claim = yaml.safe_load((LAUNCH / "gke" / "storage.yaml").read_text())
    kubernetes_validate.validate(claim, kubernetes_validate.latest_version(), strict=True)


def started_jvsc(calls):
    """The one command line that srun was given: the module, and its arguments."""
    [call] = calls()
    words = call[call.index("-m") + 1 :]
    return words[0], words[1:]


@pytest.mark.parametrize("name", ["one_node", "many_nodes"])
def test_batch_scripts_start_the_run_that_their_header_shows(name, stand_ins, tmp_path):
    path = LAUNCH / "slurm" / f"{name}.sbatch"
    calls = stand_ins("srun", "exit 0")
    words = shlex.split(header(path)[1].replace("METHOD", "thresholded_gaussian"))
    arguments = words[words.index(name_of(path)) + 1 :]
    ended = run_script(path, *arguments, tmp_path=tmp_path, SLURM_JOB_ID="7")
    assert ended.returncode == 0, ended.stderr
    module, given = started_jvsc(calls)
    assert module == "jvsc.main"
    command = parse(given)
    assert command.config.method == "thresholded_gaussian"
    assert command.distributed == (name == "many_nodes")


def test_an_array_job_starts_the_runs_of_its_file(stand_ins, tmp_path):
    runs, path = LAUNCH / "slurm" / "sweep.txt", LAUNCH / "slurm" / "array.sbatch"
    lines = [line for line in runs.read_text().splitlines() if not line.startswith("#")]
    workdirs = []
    for number in range(1, len(lines) + 1):
        calls = stand_ins("srun", "exit 0")
        calls.file.write_text("")
        array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
        ended = run_script(path, "sweep", runs, tmp_path=tmp_path, **array)
        assert ended.returncode == 0, ended.stderr
        module, given = started_jvsc(calls)
        assert (module, given) == ("jvsc.main", shlex.split(lines[number - 1]))
        workdirs.append(parse(given).workdir)
    assert len(set(workdirs)) == len(lines) == 4
    assert "--array=1-4 " in header(runs)[1]

    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(len(lines) + 1)}
    ended = run_script(path, "sweep", runs, tmp_path=tmp_path, **array)
    assert (ended.returncode, ended.stderr) == (2, f"{runs} has no run {len(lines) + 1}\n")


@pytest.mark.parametrize("target", ["table1", "figure7"])
def test_an_array_job_reproduces_one_run_of_a_target(target, stand_ins, tmp_path):
    calls = stand_ins("srun", "exit 0")
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    path = LAUNCH / "slurm" / "array.sbatch"
    ended = run_script(path, "reproduce", target, "--scale=cpu", tmp_path=tmp_path, **array)
    assert ended.returncode == 0, ended.stderr
    module, given = started_jvsc(calls)
    assert module == "jvsc.reproduce"
    options = make_parser().parse_args(given)
    assert (options.target, options.run, options.scale) == (target, 3, "cpu")
    assert execute([*given, "--dry-run"], Console(quiet=True)) == 0


@pytest.mark.parametrize("arguments", [(), ("sweep",), ("other", "thing")])
def test_an_array_job_says_how_it_is_used(arguments, stand_ins, tmp_path):
    calls = stand_ins("srun", "exit 0")
    path = LAUNCH / "slurm" / "array.sbatch"
    ended = run_script(path, *arguments, tmp_path=tmp_path, SLURM_ARRAY_TASK_ID="1")
    assert ended.returncode != 0
    assert "array.sbatch sweep FILE [SETTINGS]" in ended.stderr
    assert calls() == []


@relative(BATCH_FILES)
@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (0, "RUNNING", False),
        (2, "RUNNING", False),
        (3, "RUNNING", False),
        (EXIT_INTERRUPTED, "RUNNING", True),
        (EXIT_INTERRUPTED, "CANCELLED", False),
    ],
)
def test_only_an_interrupted_job_goes_back_into_the_queue(
    path, code, state, requeued, stand_ins, tmp_path
):
    text = path.read_text()
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --signal=TERM@" in text
    stand_ins("srun", f"exit {code}")
    # Slurm refuses to requeue where it has taken the job back already.
    calls = stand_ins("scontrol", f'[ "$1" = show ] && echo "   JobState={state} Reason=None"')
    ids = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    ended = run_script(path, "reproduce", "table1", tmp_path=tmp_path, **ids)
    assert ended.returncode == code
    assert (["requeue", "7"] in calls()) == requeued


def test_trying_slurm_says_where_it_cannot(stand_ins, tmp_path):
    stand_ins("id", "echo 1000")
    ended = run_script(LAUNCH / "slurm" / "try_here.sh", tmp_path=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("try_here.sh: nothing was tried: it needs root on Debian")


def tpu_vm(*arguments, tmp_path):
    return run_script(LAUNCH / "tpu_vm" / "run.sh", *arguments, tmp_path=tmp_path)


RUN = ["--", "--config=configs/celeba.py:gaussian", "--config.seeds=(0,)", "--workdir=runs/faces"]


@pytest.mark.parametrize("code", [0, EXIT_INTERRUPTED])
def test_a_tpu_vm_is_deleted_however_its_run_ends(code, stand_ins, tmp_path):
    calls = stand_ins("gcloud", f'[[ "$*" != *jvsc.main* ]] || exit {code}')
    share = "--share=10.0.0.2:/runs"
    ended = tpu_vm(share, "--spot", "mine", "zone-a", "v5litepod-16", *RUN, tmp_path=tmp_path)
    assert ended.returncode == code, ended.stderr
    made = calls()
    assert [call[3] for call in made] == ["create", "scp", "ssh", "ssh", "ssh", "delete"]
    assert all(call[-1] == "--zone=zone-a" for call in made)
    [remote] = [word for word in made[4] if word.startswith("--command=")]
    words = shlex.split(remote.removeprefix("--command="))
    assert parse(words[words.index("jvsc.main") + 1 :]).config.seeds == (0,)
    # Each was printed before, as it was run.
    printed = [line[2:] for line in ended.stdout.splitlines() if line.startswith("+ gcloud")]
    assert [shlex.split(line)[1:] for line in printed] == made


def test_a_dry_run_on_a_tpu_vm_only_prints(stand_ins, tmp_path):
    calls = stand_ins("gcloud", "exit 1")
    ended = tpu_vm("--dry-run", "mine", "zone-a", "v5litepod-4", *RUN, tmp_path=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert calls() == []
    assert ended.stdout.count("+ gcloud compute tpus tpu-vm") == 7


def test_hosts_without_a_common_folder_are_refused_and_deleted(stand_ins, tmp_path):
    calls = stand_ins("gcloud", '[[ "$*" != *describe* ]] || echo "10.0.0.3;10.0.0.4"')
    ended = tpu_vm("mine", "zone-a", "v5litepod-16", *RUN, tmp_path=tmp_path)
    assert ended.returncode == 2
    assert "v5litepod-16 has several hosts" in ended.stderr
    assert [call[3] for call in calls()] == ["create", "describe", "delete"]


def test_a_tpu_vm_that_was_not_created_is_not_deleted(stand_ins, tmp_path):
    """It may be somebody's who chose the same name."""
    calls = stand_ins("gcloud", "exit 1")
    ended = tpu_vm("mine", "zone-a", "v5litepod-4", *RUN, tmp_path=tmp_path)
    assert ended.returncode == 1
    assert [call[3] for call in calls()] == ["create"]


def start_locally(workdir, num_epochs):
    config = "--config=configs/patches.py:thresholded_laplacian,demo"
    settings = [f"--config.{setting}" for setting in TINY.split()]
    settings.append(f"--config.num_epochs={num_epochs}")
    return subprocess.Popen(
        [LAUNCH / "local" / "run.sh", "2", config, f"--workdir={workdir}", *settings],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_ended(process, code):
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output


@pytest.mark.slow
def test_two_processes_on_one_machine_train_one_run(tmp_path):
    check_ended(start_locally(tmp_path, 2), 0)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2]
    assert json.loads((tmp_path / "evaluation.json").read_text())["epochs"] == [2]


@pytest.mark.slow
def test_two_processes_that_are_interrupted_go_on(tmp_path):
    num_epochs = 40
    process = start_locally(tmp_path, num_epochs)
    while not read_metrics(tmp_path):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    check_ended(process, EXIT_INTERRUPTED)
    assert 0 < len(read_metrics(tmp_path)) < num_epochs
    check_ended(start_locally(tmp_path, num_epochs), 0)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == list(range(1, num_epochs + 1))


def test_a_process_that_has_joined_and_not_yet_trained_answers_a_signal():
    """JAX's preemption service, which joining starts, would swallow it."""
    script = """\
import os, signal, sys, time
from jvsc.main import guarded
from jvsc.runs.processes import start_processes

def join(arguments, console):
    start_processes(asked=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    return 0

sys.exit(guarded(join, []))
"""
    free_port = subprocess.run(
        [
            sys.executable,
            "-c",
            "import socket; print(socket.create_server(('127.0.0.1', 0)).getsockname()[1])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    alone = {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    environment = {**os.environ, **alone, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port}"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, timeout=120)
    assert ended.returncode == EXIT_INTERRUPTED
