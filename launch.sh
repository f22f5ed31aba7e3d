#!/usr/bin/env bash
# Sets the project up in .venv and runs it. Needs Python 3.11 or newer and nothing else.
#
#   ./launch.sh demo        videos for three prompts with the shipped model, in out/demo
#   ./launch.sh test        set-up, then every fast test (arguments go to pytest)
#   ./launch.sh test-slow   the tests that take minutes
#   ./launch.sh test-tpu    compile for a TPU slice without one (installs libtpu, 200 MB)
#   ./launch.sh fv ARGS     the command line, e.g. ./launch.sh fv generate --help
#   ./launch.sh setup       only the set-up
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }

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

# Does the work only when what it depends on has changed since the last time.
setup() {
    local want
    want="$(cat requirements.txt pyproject.toml launch.sh | cksum) $PWD"
    if [ -f .venv/.ready ] && [ "$(cat .venv/.ready)" = "$want" ]; then return; fi
    local start=$SECONDS
    if command -v uv >/dev/null; then
        echo "launch.sh: installing into .venv with uv"
        [ -x .venv/bin/python ] || uv venv -q --python "$(find_python)" .venv
        uv pip install --python .venv/bin/python -r requirements.txt
        uv pip install -q --python .venv/bin/python --no-deps -e .
    else
        echo "launch.sh: installing into .venv with pip (1.3 GB in the end; a minute or two)"
        [ -x .venv/bin/pip ] || "$(find_python)" -m venv --clear .venv
        .venv/bin/pip install --disable-pip-version-check --progress-bar on -q -r requirements.txt
        .venv/bin/pip install --disable-pip-version-check -q --no-deps -e .
    fi
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

command="${1:-help}"
[ $# -gt 0 ] && shift
case "$command" in
    demo) setup; demo "$@" ;;
    test) setup; exec .venv/bin/python -m pytest -m "not slow and not tpu" "${spread[@]}" "$@" ;;
    test-slow) setup; exec .venv/bin/python -m pytest -m slow "$@" ;;
    test-tpu) setup; test_tpu "$@" ;;
    fv) setup; exec .venv/bin/fv "$@" ;;
    setup) setup ;;
    help | -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
