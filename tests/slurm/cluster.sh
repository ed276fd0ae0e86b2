#!/usr/bin/env bash
# A SLURM of two virtual nodes of one CPU each on this machine, for tests: everything that it writes is in FOLDER.
#
#   tests/slurm/cluster.sh start FOLDER   # installs SLURM if it isn't there (Debian or Ubuntu, as root); idempotent
#   export SLURM_CONF=FOLDER/slurm.conf   # then sinfo, sbatch and squeue speak to it
#   tests/slurm/cluster.sh stop FOLDER
#   tests/slurm/cluster.sh run FOLDER COMMAND...   # start, the command with SLURM_CONF, stop; one at a time
#   tests/slurm/cluster.sh can-run        # whether SLURM is here or could be installed; if not, says why
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

is_installed() {
    command -v slurmctld slurmd sbatch munged >/dev/null
}

can_run() {
    is_installed && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "SLURM can't be installed here: that takes apt-get and root."
        return 1
    fi
    # What a fresh machine knows of packages may be out of date, or nothing.
    if ! { apt-get install --simulate slurm-wlm munge || { apt-get update && apt-get install --simulate slurm-wlm munge; }; } \
        >/dev/null 2>&1; then
        echo "SLURM can't be installed here: apt-get finds no package slurm-wlm."
        return 1
    fi
}

install_slurm() {
    is_installed && return
    can_run
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends slurm-wlm munge
}

# The process of a daemon that this folder's cluster runs. A number left by a crash may be another program's by now.
pid_of() {
    local pid
    pid=$(cat "$folder/$1.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1%-virtual[12]}" ] && echo "$pid"
}

# Asked without a controller, SLURM's commands try for ten seconds and more.
idle_nodes() {
    pid_of slurmctld >/dev/null || { echo 0 && return; }
    SLURM_CONF=$folder/slurm.conf timeout 10 sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l
}

write_settings() {
    local node_memory  # MiB; a tenth of the machine's is left to others
    local port=$((20000 + $(cksum <<<"$folder" | cut -d " " -f 1) % 10000))  # clusters of other folders have others
    node_memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024 / 2 * 9 / 10))
    cat >"$folder/slurm.conf" <<SETTINGS
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# The second one is also how long a requeued job waits: two minutes, unless it is given.
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
# Jobs start as soon as they can, not at the next of many rounds.
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=virtual[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=1 RealMemory=$node_memory
PartitionName=main Nodes=virtual[1-2] Default=YES State=UP
SETTINGS
}

start() {
    if [ "$(idle_nodes)" = 2 ]; then
        echo "SLURM is up already: export SLURM_CONF=$folder/slurm.conf"
        return
    fi
    install_slurm
    mkdir -p "$folder/state"
    chmod 755 "$folder"
    stop >/dev/null
    [ -f "$folder/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --log-file="$folder/munged.log" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" 2>"$folder/munged.err" 9>&-
    write_settings
    # -c: jobs of an earlier start are forgotten. Daemons keep neither our output open, nor the lock of `run` (9).
    slurmctld -c -f "$folder/slurm.conf" >"$folder/slurmctld.out" 2>&1 9>&-
    # A node that finds no controller yet tries again only after half a minute.
    for _ in $(seq 60); do
        SLURM_CONF=$folder/slurm.conf timeout 10 scontrol ping 2>/dev/null | grep -q 'UP$' && break
        sleep 0.5
    done
    for node in virtual1 virtual2; do
        mkdir -p "$folder/spool-$node"
        slurmd -N "$node" -f "$folder/slurm.conf" >"$folder/slurmd-$node.out" 2>&1 9>&-
    done
    for _ in $(seq 60); do
        if [ "$(idle_nodes)" = 2 ]; then
            echo "SLURM of two nodes is up: export SLURM_CONF=$folder/slurm.conf"
            return
        fi
        sleep 0.5
    done
    echo "SLURM didn't come up in 30 s; see the logs in $folder:" >&2
    tail -n 3 "$folder"/*.log >&2
    stop >/dev/null
    return 1
}

stop() {
    if pid_of slurmctld >/dev/null; then
        SLURM_CONF=$folder/slurm.conf timeout 20 scancel --user="$(id -un)" 2>/dev/null || true
    fi
    for daemon in slurmd-virtual1 slurmd-virtual2 slurmctld munged; do
        stop_daemon "$daemon"
    done
    echo "SLURM is stopped; its logs are in $folder"
}

# Two at once would cancel one another's jobs: the second waits.
run() {
    exec 9>"$folder.lock"
    flock 9
    trap stop EXIT
    start
    SLURM_CONF=$folder/slurm.conf "$@" 9>&-
}

stop_daemon() {
    local pid
    if pid=$(pid_of "$1"); then
        kill "$pid"
        for _ in $(seq 80); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.25
        done
    fi
    rm -f "$folder/$1.pid"
}

action=${1:-}
if [ "$action" = can-run ]; then
    can_run
elif [[ "$action" =~ ^(start|stop|run)$ ]] && [ -n "${2:-}" ]; then
    [ "$action" = stop ] && [ ! -d "$2" ] && echo "$2 isn't there: nothing to stop." && exit
    mkdir -p "$2"
    folder=$(realpath "$2")
    shift 2
    "$action" "$@"
else
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
