# shellcheck shell=bash
# `./launch.sh tpu`: the same command on every worker of a TPU VM. Read by launch.sh, whose
# functions it calls.

on_every_worker() {
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
    # Every worker has a disk of its own, sets itself up, and finds the others. The training has a
    # session of its own, so that it outlives the connection, which only shows its log.
    remote="cd flashvideo && ./launch.sh setup tpu && {"
    remote+=" setsid .venv/bin/fv train$(printf ' %q' "${rest[@]}") >train.log 2>&1 </dev/null &"
    remote+=" tail -n +1 -F --pid=\$! train.log; wait \$!; }"
    command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone")
    [ -z "$project" ] || command+=("--project=$project")
    command+=(--worker=all)
    if [ -n "$dry" ]; then
        printf '%q ' "${command[@]}"
        echo "--command='${remote//\'/\'\\\'\'}'"
        return
    fi
    command -v gcloud >/dev/null || refuse "no gcloud here; install the Google Cloud CLI"
    echo "launch.sh: it goes on without this connection. To look again, and to save and stop:" >&2
    echo "    ${command[*]} --command='tail -n 50 -F flashvideo/train.log'" >&2
    echo "    ${command[*]} --command='pkill -TERM -f \"[f]v train\"'" >&2
    exec "${command[@]}" "--command=$remote"
}
