#!/usr/bin/env bash
# Needs: root on Debian, which installs slurm-wlm and munge here; and .venv (make install) or PYTHON=PATH.
# Start: launch/slurm/try_here.sh; takes a minute or two and leaves no daemon behind.
#
# A cluster of this one machine trains two equal runs as an array job. A job of higher priority, a
# training of two processes, takes the place of one of them: that one must end in good order, return to
# the queue, and reach the very numbers of the one that was left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

EPOCHS=12
PATIENCE=900  # seconds, in all; ends what hangs, not what is slow

main() {
  install_slurm
  python=${PYTHON:-.venv/bin/python}
  folder=$(mktemp --directory)
  trap clean_up EXIT
  start_cluster
  write_sweep
  train
  check
  echo "try_here.sh: a preempted run went back into the queue and ended as if it had been left alone"
}

say() {
  echo "try_here.sh: $*"
}

fail() {
  reason="FAILED: $*"
  exit 1
}

install_slurm() {
  if [ "$(id --user)" != 0 ] || ! [ -e /etc/debian_version ]
  then
    echo "try_here.sh: nothing was tried: it needs root on Debian, to install Slurm" >&2
    exit 1
  fi
  if dpkg --status slurm-wlm munge >/dev/null 2>&1
  then
    return
  fi
  # RUNLEVEL keeps the packages from starting their own daemons.
  local install="env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet slurm-wlm munge"
  $install >/dev/null 2>&1 || { apt-get update --quiet && $install; } >/dev/null 2>&1 \
    || { echo "try_here.sh: nothing was tried: slurm-wlm and munge cannot be installed" >&2; exit 1; }
}

# Everything of the cluster is in $folder: its key, socket, state and logs.
start_cluster() {
  local ports
  ports=$("$python" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
  mkdir "$folder"/{state,spool,runs}
  chmod 755 "$folder"
  (umask 077; head --bytes=1024 /dev/urandom >"$folder/munge.key")
  # Three places for two cores, so that a job of two displaces one of two jobs. A requeued job waits
  # for as long as its credential is valid.
  cat >"$folder/slurm.conf" <<CONFIGURATION
ClusterName=try
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
NodeName=localhost NodeHostname=$(hostname --short) NodeAddr=127.0.0.1 CPUs=3
PartitionName=low Nodes=localhost Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=localhost PriorityTier=2 PreemptMode=OFF
CONFIGURATION
  export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munged.log" \
    2>"$folder/munged.warnings"
  slurmctld -c
  slurmd -c
  wait_until "the node is up" $((SECONDS + 30)) node_is_up
}

node_is_up() {
  [[ "$(sinfo --noheader --partition=low --format=%T 2>/dev/null)" =~ ^(idle|mixed|allocated)$ ]]
}

# wait_until WHAT SECONDS CONDITION: SECONDS are counted from the script's start.
wait_until() {
  until "$3"
  do
    [ "$SECONDS" -lt "$2" ] || fail "in $2 s it did not come about that $1"
    sleep 0.5
  done
}

write_sweep() {
  settings=(
    "--config=configs/patches.py:thresholded_laplacian,demo" --config.num_samples=2
    --config.num_latents=32 --config.data.patch_size=8 --config.data.num_validation=500
    --config.eval.num_validation=100 --config.eval.iwae_samples=2 --config.eval.snr_draws=2
    --config.eval.snr_batches=1 --config.eval.jaccard_draws=2 --config.eval.probe_train=50
  )
  local run
  for run in 1 2
  do
    echo "${settings[@]}" "--config.num_epochs=$EPOCHS" --config.data.num_train=10000 \
      "--workdir=$folder/runs/$run"
  done >"$folder/sweep.txt"
}

train() {
  # The second start of a run, and the second of two equal runs, need not compile.
  export JAX_COMPILATION_CACHE_DIR=$folder/compiled JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
  export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
  # Programs that run for a second are not worth optimising.
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=0"
  array=$(sbatch --parsable --array=1-2 --partition=low --output="$folder/run-%a.log" \
    launch/slurm/array.sbatch sweep "$folder/sweep.txt")
  wait_until "both runs have trained an epoch" "$PATIENCE" both_have_trained
  pair=$(sbatch --parsable --partition=high --nodes=1 --ntasks-per-node=2 \
    --output="$folder/run-pair.log" launch/slurm/many_nodes.sbatch "${settings[@]}" \
    --config.num_epochs=1 --config.data.num_train=1000 "--workdir=$folder/runs/pair")
  wait_until "all jobs have ended" "$PATIENCE" queue_is_empty
}

both_have_trained() {
  ! queue_is_empty || fail "the jobs ended before they trained"
  [ -s "$folder/runs/1/metrics.jsonl" ] && [ -s "$folder/runs/2/metrics.jsonl" ]
}

queue_is_empty() {
  [ -z "$(squeue --noheader)" ]
}

check() {
  local job
  for job in "${array}_1" "${array}_2" "$pair"
  do
    [ "$(told "$job" JobState)" = COMPLETED ] || fail "job $job ended as $(told "$job" JobState)"
  done
  local restarts
  restarts="$(told "${array}_1" Restarts) $(told "${array}_2" Restarts)"
  case $restarts in
    "1 0") preempted=1 ;;
    "0 1") preempted=2 ;;
    *) fail "the two runs were requeued $restarts times, instead of one of them once" ;;
  esac
  grep --quiet "ended by SIGTERM" "$folder/run-$preempted.log" \
    || fail "run $preempted was not interrupted in its training"
  local complaint
  complaint=$("$python" launch/slurm/check_runs.py "$folder/runs" "$EPOCHS" 2>&1) || fail "$complaint"
}

# told JOB KEY: what Slurm tells of a job
told() {
  scontrol --oneliner show job "$1" | tr ' ' '\n' | sed --quiet "s/^$2=//p"
}

clean_up() {
  local code=$? name
  trap - EXIT
  if [ "$code" != 0 ]
  then
    tail --lines=20 "$folder"/*.log >&2
    say "${reason:-FAILED}" >&2
  fi
  # Where the cluster never came up there is nothing to cancel.
  if node_is_up
  then
    scancel --user=root
    (wait_until "the jobs have gone" $((SECONDS + 20)) queue_is_empty) || true
  fi
  for name in slurmctld slurmd munged
  do
    [ ! -e "$folder/$name.pid" ] || kill "$(cat "$folder/$name.pid")"
  done
  # Each takes its pid file away as it ends.
  (wait_until "the daemons have ended" $((SECONDS + 20)) no_daemon_is_left) || true
  rm --recursive --force "$folder"
  exit "$code"
}

no_daemon_is_left() {
  ! compgen -G "$folder/*.pid" >/dev/null
}

main
