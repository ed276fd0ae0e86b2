# What the batch scripts of this folder share. They source it: each says its own resources, and which script it runs.

STOPPED=75  # the exit code of a run that a signal stopped, and that goes on when it is started again

# start_processes SCRIPT [OPTIONS]: takes the place of this shell; ends with the exit code of the processes.
#
# One process a task of the job, of which srun is the launcher: signals reach the processes, and their exit code comes
# back, which other launchers hide. A batch script runs on the first node, where process 0 is. A process takes its own
# of the GPUs of its node, or the one that it sees (--gpus-per-task=1), and shares cores with those that may use them.
# What is fetched of a remote set is kept on the disk of each node: in a shared home all nodes would queue for it.
# PYTHON may be of several words, such as "apptainer exec --nv rnagan.sif python".
start_processes() {
    export MASTER_ADDR=${MASTER_ADDR:-$(hostname)} MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
    export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))
    # A process that isn't listening yet would be ended by USR1. When one has ended, the others get a minute to follow.
    exec srun --cpu-bind=none --wait=60 bash -c '
        trap "" USR1
        export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
        export RNAGAN_CACHE=${RNAGAN_CACHE:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/rnagan-$(id -un)/shards}
        exec ${PYTHON:-python} "$@"' "$1" "$@"
}

# run_and_requeue SCRIPT [OPTIONS]: the processes; USR1 to this shell makes them write a checkpoint and stop, and the
# job goes back to the queue. Ends the batch script with their exit code.
run_and_requeue() {
    local asked_to_stop= step code
    trap 'asked_to_stop=1' USR1
    start_processes "$@" &
    step=$!
    while :; do
        wait "$step"  # a signal to this script ends the wait, not the step
        code=$?
        kill -0 "$step" 2>/dev/null || break
        while [ -n "$asked_to_stop" ] && kill -USR1 "$step" 2>/dev/null; do
            sleep 5
        done
    done
    if [ "$code" = "$STOPPED" ]; then
        echo "Stopped with a checkpoint; job $SLURM_JOB_ID goes back to the queue."
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}
