#!/usr/bin/env bash
# Records the baseline, and evaluates it a second time for the noise floor. Given again after it was
# ended, it goes on.
#
#SBATCH --job-name=flips-baseline
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail
# shellcheck source=examples/cluster/settings.sh
source "${JOBS:-.}/settings.sh"

exec lm-eval-flips run --baseline "$BASELINE" --baseline-only --noise-floor \
  "${asked[@]}" --output_path "$RUNS"
