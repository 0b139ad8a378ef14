#!/usr/bin/env bash
# All jobs on Slurm, each after those that it needs: the baseline, every compressed model by itself,
# one comparison of what was finished.
#
#   cd examples/cluster && bash submit.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
JOBS=$PWD
export JOBS
# shellcheck source=examples/cluster/settings.sh
source settings.sh

last=$(($(wc -l <"$MODELS") - 1))
baseline=$(sbatch --parsable baseline.sh)
compressed=$(sbatch --parsable --dependency="afterok:$baseline" --array="0-$last" compressed.sh)
# also where some of them failed: the report says what it lacks
sbatch --dependency="afterany:$compressed" compare.sh
