#!/usr/bin/env bash
# Needs: jvsc in .venv (make install), or PYTHON=PATH; one machine, its CPU or GPUs.
# Start: launch/local/run.sh N --config=configs/patches.py:METHOD --workdir=runs/first
set -euo pipefail

usage="usage: launch/local/run.sh N ARGUMENTS OF jvsc.main; N processes, such as one for each GPU"
if ! [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]
then
  echo "$usage" >&2
  exit 2
fi
count=$1
shift
python=${PYTHON:-.venv/bin/python}

free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
JAX_COORDINATOR_ADDRESS=127.0.0.1:$("$python" -c "$free_port")
export JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES=$count

processes=()
# Asked to end, all are asked: each keeps its checkpoint and ends with 75.
trap 'kill -TERM "${processes[@]}" 2>/dev/null || true' TERM INT
for ((index = 0; index < count; index++))
do
  # On GPUs each process takes its own; elsewhere JAX does not ask.
  JAX_PROCESS_ID=$index JAX_LOCAL_DEVICE_IDS=$index \
    "$python" -m jvsc.main --distributed "$@" &
  processes+=($!)
done

code=0
for process in "${processes[@]}"
do
  # A signal ends the waiting, not the process.
  while true
  do
    ended=0
    wait "$process" || ended=$?
    kill -0 "$process" 2>/dev/null || break
  done
  if [ "$code" = 0 ]
  then
    code=$ended
  fi
done
exit "$code"
