# shellcheck shell=bash
# `./launch.sh slurm`: writes a job and submits it. Read by launch.sh, whose functions it calls.

submit() {
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

# The script that SLURM runs; called by submit, whose options it reads.
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
