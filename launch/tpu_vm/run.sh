#!/usr/bin/env bash
# Needs: gcloud, logged in, with a project that may create TPU VMs; for slices of several hosts an NFS share.
# Start: launch/tpu_vm/run.sh --dry-run NAME ZONE TYPE [--share=HOST:/PATH] [--spot] -- --config=configs/celeba.py:METHOD --workdir=runs/faces
set -euo pipefail
cd "$(dirname "$0")/../.."

usage="usage: launch/tpu_vm/run.sh [--dry-run] [--spot] [--share=HOST:/PATH] [--version=RUNTIME] NAME ZONE TYPE -- ARGUMENTS OF jvsc.main
  TYPE is such as v5litepod-16; --share is mounted at ~/jvsc/runs of every host; without it the slice
  has one host, and runs/ is copied here at the end. What is committed is what runs."

main() {
  read_arguments "$@"
  exec 3>&1
  create
  trap delete EXIT
  check_hosts
  install
  run
}

read_arguments() {
  dry_run=no share='' runtime=v2-alpha-tpuv5-lite create_flags=()
  local places=()
  while [ $# -gt 0 ]
  do
    case $1 in
      --) shift; break ;;
      --dry-run) dry_run=yes ;;
      --spot) create_flags+=(--spot) ;;
      --share=?*:/*) share=${1#*=} ;;
      --version=?*) runtime=${1#*=} ;;
      -*) stop "$1 is not understood" ;;
      *) places+=("$1") ;;
    esac
    shift
  done
  [ ${#places[@]} = 3 ] && [ $# -gt 0 ] || stop "NAME, ZONE, TYPE and, after --, arguments are needed"
  name=${places[0]} zone=${places[1]} type=${places[2]} arguments=("$@")
}

stop() {
  printf '%s\n' "$1" "$usage" >&2
  exit 2
}

# Prints a command, so that it can be copied, and runs it unless --dry-run is given.
step() {
  local word line=+
  for word in "$@"
  do
    [[ $word =~ ^[A-Za-z0-9_./:=,@~-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  printf '%s\n' "$line" >&3
  [ "$dry_run" = yes ] || "$@"
}

tpu_vm() {
  local verb=$1
  shift
  step gcloud compute tpus tpu-vm "$verb" "$@" --zone="$zone"
}

on_all_hosts() {
  tpu_vm ssh "$name" --worker=all --command="$1"
}

create() {
  if ! tpu_vm create "$name" --accelerator-type="$type" --version="$runtime" "${create_flags[@]}"
  then
    echo "$name was not created; should \`gcloud compute tpus tpu-vm list\` show it, delete it" >&2
    exit 1
  fi
}

# Hosts that share no folder cannot write one run.
check_hosts() {
  if [ -n "$share" ]
  then
    return
  fi
  local addresses
  addresses=$(tpu_vm describe "$name" --format="value(networkEndpoints[].ipAddress)")
  case $addresses in
    *";"*) stop "$type has several hosts, which write one run together: give --share=HOST:/PATH" ;;
  esac
}

install() {
  archive=$(mktemp --suffix=.tar.gz)
  step git archive --format=tar.gz --prefix=jvsc/ --output="$archive" HEAD
  tpu_vm scp "$archive" "$name:jvsc.tar.gz" --worker=all
  # The hosts' own Python may be too old; uv brings another.
  on_all_hosts "tar xzf jvsc.tar.gz && cd jvsc && python3 -m pip install --quiet --user uv \
&& ~/.local/bin/uv venv --quiet --python 3.12 \
&& ~/.local/bin/uv pip install --quiet --constraint requirements.lock '.[command,tpu]'"
  if [ -n "$share" ]
  then
    on_all_hosts "sudo apt-get install --yes --quiet nfs-common && mkdir -p jvsc/runs \
&& sudo mount -t nfs $(printf %q "$share") jvsc/runs && sudo chown \"\$(id --user)\" jvsc/runs"
  fi
}

run() {
  local code=0
  on_all_hosts "cd jvsc && .venv/bin/python -m jvsc.main --distributed$(printf ' %q' "${arguments[@]}")" \
    || code=$?
  if [ -z "$share" ]
  then
    tpu_vm scp "$name:jvsc/runs" . --recurse --worker=0
  fi
  return "$code"
}

# Always, so that nothing is left to pay for.
delete() {
  local code=$?
  trap - EXIT
  if [ -n "${archive:-}" ]
  then
    rm --force "$archive"
  fi
  if ! tpu_vm delete "$name" --quiet
  then
    echo "$name could not be deleted; it goes on costing until you delete it" >&2
    [ "$code" != 0 ] || code=1
  fi
  exit "$code"
}

main "$@"
