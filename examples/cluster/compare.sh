#!/usr/bin/env bash
# Compares all that was evaluated: one report, and a leaderboard.
#
#SBATCH --job-name=flips-compare
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --time=01:00:00
set -euo pipefail
# shellcheck source=examples/cluster/settings.sh
source "${JOBS:-.}/settings.sh"

compressed=()
for place in "$RUNS"/jobs/*/*/evaluation.json; do
  compressed+=("$(dirname "$place")")
done
lm-eval-flips report "$RUNS/baseline" "${compressed[@]}" --noise-floor "$RUNS/noise-floor" \
  --output "$RUNS/report.html" --overwrite
lm-eval-flips leaderboard "$RUNS" --baseline "$RUNS/baseline" --output "$RUNS/leaderboard.html" --overwrite
