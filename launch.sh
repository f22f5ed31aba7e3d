#!/usr/bin/env bash
# Sets the project up in .venv and runs it. Needs Python 3.11 or newer and nothing else.
#
#   ./launch.sh demo        four videos by the shipped models, in out/demo
#   ./launch.sh test        set-up, then every fast test (arguments go to pytest); `test --newest`
#                           with the newest versions that are allowed, on the newest Python here
#   ./launch.sh test-slow   the tests that take minutes
#   ./launch.sh test-browser  the page of `fv studio` in Chromium (Debian's chromium, chromium-driver)
#   ./launch.sh test-tpu    compile for a TPU slice without one (installs libtpu, 0.7 GB)
#   ./launch.sh bench-gpu   ten minutes of benches on a GPU, into out/gpu
#   ./launch.sh docs        the pages as a site, in out/site; every link is checked
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

usage() { sed -n '2,20s/^# \{0,1\}//p' "$0"; }

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
        echo "launch.sh: installing into .venv with pip (1.6 GB in the end; a minute or two)"
        [ -x .venv/bin/pip ] || "$(find_python)" -m venv --clear .venv
        .venv/bin/pip install --disable-pip-version-check --progress-bar on -q "${packages[@]}"
        .venv/bin/pip install --disable-pip-version-check -q --no-deps -e .
    fi
    [ -z "$device" ] || echo "$device" >.venv/.device
    echo "$want" >.venv/.ready
    echo "launch.sh: ready after $((SECONDS - start)) s"
}

# A file's tests share what they compiled, so a file stays with one process. One that crashes ends
# the run: what would take its place may wait for ever.
spread=(--numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
    --max-worker-restart 0)

demo() { .venv/bin/python examples/demo.py "$@"; }

# In an environment of its own; requirements.txt has no say in it.
test_newest() {
    local home=.venv/newest name
    shift
    if [ ! -x "$home/bin/python" ]; then
        for name in python3.14 python3.13 python3.12 "$(find_python)"; do
            "$name" -c "" 2>/dev/null && break
        done
        "$name" -m venv "$home"
    fi
    "$home/bin/python" -m pip install --disable-pip-version-check -q --upgrade \
        --upgrade-strategy eager -e ".[dev]"
    exec "$home/bin/python" -m pytest -m "not slow and not tpu and not browser" "${spread[@]}" "$@"
}

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

# What docs/kernels.md wants to know. The last of them goes on where it was stopped.
bench_gpu() {
    local bench benches=("kernels --clock --rows 16" "retention --batch 64" "efficiency --preset paper")
    export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch needs some of the memory
    for bench in "${benches[@]}"; do
        # shellcheck disable=SC2086 # words of one command
        timeout --signal=INT "$((600 - SECONDS > 1 ? 600 - SECONDS : 1))" \
            .venv/bin/fv bench $bench --out out/gpu "$@" || echo "launch.sh: $bench is not complete" >&2
    done
}

# Pages link to each other, and to code, as all of it lies in the tree: so it is laid out for mkdocs.
build_docs() {
    local home=.venv/docs source=out/site-source
    if [ ! -x "$home/bin/mkdocs" ]; then
        "$(find_python)" -m venv "$home"
        "$home/bin/python" -m pip install --disable-pip-version-check -q \
            "mkdocs-material==9.8.*" "mkdocstrings[python]==1.0.*"
    fi
    rm -rf "$source"
    mkdir -p "$source"
    git ls-files -z -- ':!fv_jax/assets' ':!tests/fixtures' | tar --null -T - -cf - |
        tar -xf - -C "$source"
    NO_MKDOCS_2_WARNING=1 "$home/bin/mkdocs" build
    echo "out/site/index.html"
}

# Where a training's logs go: out/EXPERIMENT, or the folder that `fv train` is told.
run_folder() {
    local name="${1##*/}" before="" word
    for word in "$@"; do
        case "$before $word" in
            "--run.folder "*://* | *" --run.folder="*://*) ;; # a bucket: logs stay here
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

# Clusters: what they need is read when it is asked for.
slurm_training() { . deploy/slurm.sh && submit "$@"; }
tpu_training() { . deploy/tpu.sh && on_every_worker "$@"; }

command="${1:-help}"
[ $# -gt 0 ] && shift
case "$command" in
    demo) setup; demo "$@" ;;
    test) [ "${1:-}" != --newest ] || test_newest "$@"
        setup; exec .venv/bin/python -m pytest -m "not slow and not tpu and not browser" "${spread[@]}" "$@" ;;
    test-slow) setup; exec .venv/bin/python -m pytest -m slow "$@" ;;
    test-browser) setup; exec .venv/bin/python -m pytest -m browser tests/studio "$@" ;;
    test-tpu) setup; test_tpu "$@" ;;
    bench-gpu) setup; SECONDS=0; bench_gpu "$@" ;;
    docs) build_docs ;;
    fv) setup; exec .venv/bin/fv "$@" ;;
    setup) setup "$@" ;;
    local) local_training "$@" ;;
    slurm) slurm_training "$@" ;;
    tpu) tpu_training "$@" ;;
    help | -h | --help) usage ;;
    *) refuse "no command '$command'; ./launch.sh help lists them" ;;
esac
