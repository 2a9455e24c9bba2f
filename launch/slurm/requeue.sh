# Needs: Slurm; sourced by the batch scripts beside it, which are submitted from the repository.
# Start: . launch/slurm/requeue.sh && run_or_requeue COMMAND...
# shellcheck shell=bash

# Runs a command in every task of the job. 75 is jvsc's "interrupted, the same command goes on": the
# job then goes back into the queue. Any other exit code is the job's.
run_or_requeue() {
  local code=0
  # Since Slurm 22.05 srun no longer takes the job's --cpus-per-task by itself.
  if [ -n "${SLURM_CPUS_PER_TASK:-}" ]
  then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  fi
  # Slurm's signal reaches the tasks by itself; where it reaches this shell too, srun is waited for.
  trap : TERM
  srun "$@" || code=$?
  # A job that its user cancels gets the same signal, and would come back.
  if [ "$code" = 75 ] && [[ "$(scontrol show job "$SLURM_JOB_ID")" != *JobState=CANCELLED* ]]
  then
    echo "interrupted; job $SLURM_JOB_ID goes back into the queue"
    # Slurm ends this shell once it has taken the job back. Where it has done so already, it refuses.
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
  fi
  exit "$code"
}
