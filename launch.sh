#!/usr/bin/env bash
# Sets the project up in .venv and runs it. Needs Python 3.11 or newer and nothing else.
#
#   ./launch.sh demo        videos for three prompts with the shipped model, in out/demo
#   ./launch.sh test        set-up, then every fast test (arguments go to pytest)
#   ./launch.sh test-slow   the tests that take minutes
#   ./launch.sh test-tpu    compile for a TPU slice without one (installs libtpu, 200 MB)
#   ./launch.sh fv ARGS     the command line, e.g. ./launch.sh fv generate --help
#   ./launch.sh setup       only the set-up; `setup cuda12`, `cuda13` or `tpu` for that device
#
# Training here and on clusters; ARGS are those of `fv train`, and docs/scale.md says more:
#
#   ./launch.sh local EXPERIMENT [--processes N] [--cpu-devices D] [ARGS]
#   ./launch.sh slurm EXPERIMENT --nodes N [--tasks-per-node K] [--cpus-per-task C]
#       [--gpus-per-node G] [--partition P] [--time T] [--dry-run] [-- ARGS]
#   ./launch.sh tpu NAME --zone Z [--project P] [--dry-run] EXPERIMENT [ARGS]
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,16s/^# \{0,1\}//p' "$0"; }

# Wrong usage: one line, and the exit code that `fv` has for it.
refuse() {
    echo "launch.sh: $*" >&2
    exit 2
}

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        if [ -n "$name" ] && command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "launch.sh: Python 3.11 or newer is needed; install it or set PYTHON=/path/to/python3" >&2
    return 2
}

# Does the work only when what it depends on has changed since the last time. A device that was
# once asked for (`setup cuda12`) stays.
setup() {
    local device="${1:-}" want jax packages=()
    case "$device" in
        "" | cuda12 | cuda13 | tpu) ;;
        *) refuse "setup takes cuda12, cuda13, tpu or nothing, got '$device'" ;;
    esac
    if [ -z "$device" ] && [ -f .venv/.device ]; then device="$(cat .venv/.device)"; fi
    want="$(cat requirements.txt pyproject.toml launch.sh | cksum) $PWD $device"
    if [ -f .venv/.ready ] && [ "$(cat .venv/.ready)" = "$want" ]; then return; fi
    local start=$SECONDS
    packages=(-r requirements.txt)
    if [ -n "$device" ]; then
        jax="$(sed -n 's/^jax==//p' requirements.txt)"
        packages+=("jax[$device]==$jax")
    fi
    if command -v uv >/dev/null; then
        echo "launch.sh: installing into .venv with uv"
        # Where there is no Python that is new enough, uv fetches one.
        [ -x .venv/bin/python ] ||
            uv venv -q --python "$(find_python 2>/dev/null || echo 3.12)" .venv
        uv pip install --python .venv/bin/python "${packages[@]}"
        uv pip install -q --python .venv/bin/python --no-deps -e .
    else
        echo "launch.sh: installing into .venv with pip (1.3 GB in the end; a minute or two)"
        [ -x .venv/bin/pip ] || "$(find_python)" -m venv --clear .venv
        .venv/bin/pip install --disable-pip-version-check --progress-bar on -q "${packages[@]}"
        .venv/bin/pip install --disable-pip-version-check -q --no-deps -e .
    fi
    [ -z "$device" ] || echo "$device" >.venv/.device
    echo "$want" >.venv/.ready
    echo "launch.sh: ready after $((SECONDS - start)) s"
}

# A file's tests share what they compiled, so a file stays with one process.
spread=(--numprocesses auto --maxprocesses 8 --dist loadfile)

demo() { .venv/bin/python examples/demo.py "$@"; }

# In a folder of its own: installed beside jax, libtpu would look for a TPU at every start.
test_tpu() {
    local home=.venv/libtpu version="libtpu==0.0.42.*" # what jax[tpu] of requirements.txt names
    if [ ! -d "$home/libtpu" ]; then
        if command -v uv >/dev/null; then
            uv pip install --python .venv/bin/python --no-deps --target "$home" "$version"
        else
            .venv/bin/pip install --disable-pip-version-check --no-deps --target "$home" "$version"
        fi
    fi
    exec env JAX_PLATFORMS=cpu PYTHONPATH="$home" .venv/bin/python -m pytest -m tpu "$@"
}

# Where a training's logs go: out/EXPERIMENT, or the folder that `fv train` is told.
run_folder() {
    local name="${1##*/}" before="" word
    for word in "$@"; do
        case "$before $word" in
            "--run.folder "*) echo "$word" && return ;;
            *" --run.folder="*) echo "${word#*=}" && return ;;
        esac
        before="$word"
    done
    echo "out/${name%.py}"
}

# is_number NAME VALUE: whole and at least 1.
is_number() {
    case "$2" in
        "" | *[!0-9]* | 0*) refuse "$1 needs a whole number of at least 1, got '$2'" ;;
    esac
}

is_value() {
    case "$2" in "" | -*) refuse "$1 needs a value" ;; esac
}

is_experiment() {
    case "${2:-}" in
        "" | -*) refuse "$1 needs an EXPERIMENT first; ./launch.sh help says more" ;;
    esac
}

local_training() {
    local processes="" devices="" rest=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --processes) is_number "$1" "${2:-}"; processes="$2"; shift ;;
            --cpu-devices) is_number "$1" "${2:-}"; devices="$2"; shift ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
    is_experiment local "${rest[0]:-}"
    setup
    if [ -n "$devices" ]; then export JAX_NUM_CPU_DEVICES="$devices"; fi
    if [ -z "$processes" ]; then exec .venv/bin/fv train "${rest[@]}"; fi
    several_processes "$processes" "${rest[@]}"
}

# Starts them, shows the first one's output, and ends all when one fails or a signal comes.
several_processes() {
    local count="$1" logs port pids=() alive k code result=0 failed_at=""
    stopping=""
    shift
    logs="$(run_folder "$@")/logs"
    mkdir -p "$logs"
    port="$(.venv/bin/python -c '
import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    print(free.getsockname()[1])')"
    export JAX_COORDINATOR_ADDRESS="127.0.0.1:$port" JAX_COORDINATOR_BIND_ADDRESS="127.0.0.1:$port"
    export JAX_NUM_PROCESSES="$count" PYTHONUNBUFFERED=1
    trap stop_all TERM INT HUP
    echo "launch.sh: $count processes; their output goes to $logs/process-*.log"
    for ((k = 0; k < count; k++)); do
        # One GPU each; CPU devices are not concerned.
        export JAX_PROCESS_ID="$k" JAX_LOCAL_DEVICE_IDS="$k"
        if [ "$k" = 0 ]; then
            .venv/bin/fv train "$@" > >(tee -i "$logs/process-0.log") 2>&1 &
        else
            .venv/bin/fv train "$@" >"$logs/process-$k.log" 2>&1 &
        fi
        pids+=("$!")
    done
    alive=("${!pids[@]}")
    while [ "${#alive[@]}" -gt 0 ]; do
        sleep 0.2
        for k in "${alive[@]}"; do
            if kill -0 "${pids[$k]}" 2>/dev/null; then continue; fi
            code=0
            wait "${pids[$k]}" || code=$?
            unset "alive[$k]"
            if [ "$code" = 0 ] || [ "$result" != 0 ]; then continue; fi
            result="$code"
            if [ -n "$stopping" ]; then continue; fi # those that were told to stop are saving
            echo "launch.sh: process $k ended with code $code; see $logs/process-$k.log" >&2
            failed_at="$SECONDS"
            kill -TERM $(jobs -p) 2>/dev/null || true
        done
        # The others may wait for one that failed for ever, and not hear.
        if [ -n "$failed_at" ] && [ $((SECONDS - failed_at)) -gt 10 ]; then
            kill -KILL $(jobs -p) 2>/dev/null || true
        fi
    done
    exit "$result"
}

# `fv train` saves at SIGTERM. (Bash lets processes in the background ignore Ctrl-C.)
stop_all() {
    kill "-${stopping:-TERM}" $(jobs -p) 2>/dev/null || true
    stopping=KILL # the second time
}

slurm_training() {
    local nodes="" tasks=1 cpus="" gpus="" partition="" time="" dry="" rest=() folder job
    while [ $# -gt 0 ]; do
        case "$1" in
            --nodes) is_number "$1" "${2:-}"; nodes="$2"; shift ;;
            --tasks-per-node) is_number "$1" "${2:-}"; tasks="$2"; shift ;;
            --cpus-per-task) is_number "$1" "${2:-}"; cpus="$2"; shift ;;
            --gpus-per-node) is_number "$1" "${2:-}"; gpus="$2"; shift ;;
            --partition) is_value "$1" "${2:-}"; partition="$2"; shift ;;
            --time) is_value "$1" "${2:-}"; time="$2"; shift ;;
            --dry-run) dry=yes ;;
            --) shift; rest+=("$@"); break ;;
            -*) refuse "slurm does not know $1; arguments of \`fv train\` go behind --" ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
    is_experiment slurm "${rest[0]:-}"
    [ -n "$nodes" ] || refuse "slurm needs --nodes N"
    # JAX takes either every GPU of a node or the one with the task's number.
    [ -z "$gpus" ] || [ "$tasks" = 1 ] || [ "$tasks" = "$gpus" ] ||
        refuse "--tasks-per-node must be 1 or --gpus-per-node, got $tasks for $gpus GPUs"
    folder="$(run_folder "${rest[@]}")/slurm"
    case "$folder" in /*) ;; *) folder="$PWD/$folder" ;; esac
    if [ -z "$dry" ]; then
        command -v sbatch >/dev/null || refuse "no sbatch here; run this where jobs are submitted"
        setup
    fi
    mkdir -p "$folder"
    slurm_script "${rest[@]}" >"$folder/job.sbatch"
    if [ -n "$dry" ]; then
        cat "$folder/job.sbatch"
        return
    fi
    job="$(sbatch --parsable "$folder/job.sbatch")"
    job="${job%%;*}" # with several clusters: JOB;CLUSTER
    echo "submitted job $job: $folder/job.sbatch"
    echo "    squeue -j $job                 does it wait, run, or is it queued again?"
    echo "    tail -F $folder/$job.log"
    echo "    scancel --signal=TERM $job     save and end; the same command goes on from there"
}

# The script that SLURM runs; called by slurm_training, whose options it reads.
slurm_script() {
    local name="${1##*/}" log="${folder//%/%%}/%j.log"
    cat <<END
#!/usr/bin/env bash
#SBATCH --job-name="fv-${name%.py}"
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$tasks
${cpus:+#SBATCH --cpus-per-task=$cpus
}${gpus:+#SBATCH --gpus-per-node=$gpus
}${partition:+#SBATCH --partition=$partition
}${time:+#SBATCH --time=$time
}#SBATCH --output="$log"
#SBATCH --open-mode=append
# When the job is preempted or a node fails, SLURM queues it again. It runs this script once more,
# and \`fv train\` goes on from its newest checkpoint.
#SBATCH --requeue
# SLURM does not do so at the time limit: 90 s before it, this script hears of it and does.
#SBATCH --signal=B:USR1@90
set -u
cd $(printf %q "$PWD") || exit
export PYTHONUNBUFFERED=1
${cpus:+export SRUN_CPUS_PER_TASK=$cpus # srun does not take it from the job
}
# One process for each task; they find each other. If one fails, the others end, too.
srun --kill-on-bad-exit=1 --label .venv/bin/fv train$(printf ' %q' "$@") &
training=\$!

limit=no
at_limit() {
    limit=yes
    echo "the time limit is near: saving"
    scancel --signal=TERM "\$SLURM_JOB_ID" # to the tasks, not to this script
}
trap at_limit USR1
trap : TERM # preempted or cancelled: SLURM has told the tasks; wait until they have saved

# \`wait\` also returns when a signal has come.
while kill -0 "\$training" 2>/dev/null; do wait "\$training"; done
wait "\$training"
code=\$?

# Saved at the limit: in the queue again. A run that was finished just then ends at once next time.
# 130 is \`fv\`'s code for "stopped". Any other means that it failed, and would fail again.
if [ "\$limit" = yes ] && { [ "\$code" = 0 ] || [ "\$code" = 130 ]; }; then
    echo "queued again"
    scontrol requeue "\$SLURM_JOB_ID"
fi
exit "\$code"
END
}

tpu_training() {
    local name="${1:-}" zone="" project="" dry="" rest=() remote command
    case "$name" in "" | -*) refuse "tpu needs the NAME of a TPU VM first" ;; esac
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
            --zone) is_value "$1" "${2:-}"; zone="$2"; shift ;;
            --project) is_value "$1" "${2:-}"; project="$2"; shift ;;
            --dry-run) dry=yes ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
    is_experiment tpu "${rest[0]:-}"
    [ -n "$zone" ] || refuse "tpu needs --zone Z"
    # Every worker has a disk of its own, sets itself up, and finds the others.
    remote="cd flashvideo && ./launch.sh setup tpu && exec .venv/bin/fv train"
    remote+="$(printf ' %q' "${rest[@]}")"
    command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone")
    [ -z "$project" ] || command+=("--project=$project")
    command+=(--worker=all)
    if [ -n "$dry" ]; then
        printf '%q ' "${command[@]}"
        echo "--command='${remote//\'/\'\\\'\'}'"
        return
    fi
    command -v gcloud >/dev/null || refuse "no gcloud here; install the Google Cloud CLI"
    exec "${command[@]}" "--command=$remote"
}

command="${1:-help}"
[ $# -gt 0 ] && shift
case "$command" in
    demo) setup; demo "$@" ;;
    test) setup; exec .venv/bin/python -m pytest -m "not slow and not tpu" "${spread[@]}" "$@" ;;
    test-slow) setup; exec .venv/bin/python -m pytest -m slow "$@" ;;
    test-tpu) setup; test_tpu "$@" ;;
    fv) setup; exec .venv/bin/fv "$@" ;;
    setup) setup "$@" ;;
    local) local_training "$@" ;;
    slurm) slurm_training "$@" ;;
    tpu) tpu_training "$@" ;;
    help | -h | --help) usage ;;
    *) refuse "no command '$command'; ./launch.sh help lists them" ;;
esac
