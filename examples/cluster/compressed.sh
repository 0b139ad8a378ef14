#!/usr/bin/env bash
# Evaluates one compressed model, the line of MODELS with this job's number, against the recorded
# baseline. Given again after it was ended, it goes on; what is finished is kept.
#
#SBATCH --job-name=flips-compressed
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
# shellcheck source=examples/cluster/settings.sh
source "${JOBS:-.}/settings.sh"

number=${SLURM_ARRAY_TASK_ID:-${JOB_COMPLETION_INDEX:?"the job has no number"}}
model=$(sed -n "$((number + 1))p" "$MODELS")
[ -n "$model" ] || { echo "$MODELS has no line $((number + 1))" >&2 && exit 2; }
# each job writes into a folder of its own, as two runs never write into one
exec lm-eval-flips run --baseline "$RUNS/baseline" --compressed "$model" \
  "${asked[@]}" --output_path "$RUNS/jobs/$number"
