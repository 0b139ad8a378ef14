# shellcheck shell=bash
# What the jobs of this folder share; sourced. Each can be given in the environment.
#
#   MODELS    a file with one compressed model's arguments a line
#   BASELINE  the baseline's model arguments
#   TASKS, LIMIT, INCLUDE_PATH   what they are asked
#   LAUNCHER  how each evaluation is started over the GPUs of its machine; empty for one process
#   RUNS      where everything is written: a folder that all machines see
MODELS=${MODELS:-models.txt}
BASELINE=${BASELINE:-pretrained=meta-llama/Llama-3.1-70B-Instruct,dtype=bfloat16,tp_plan=auto}
TASKS=${TASKS:-mmlu,gsm8k}
LAUNCHER=${LAUNCHER-torchrun:--nproc-per-node 8}
RUNS=${RUNS:-runs}

asked=(--tasks "$TASKS" --batch_size "${BATCH_SIZE:-8}")
[ -z "$LAUNCHER" ] || asked+=(--launcher "$LAUNCHER")
[ -z "${LIMIT:-}" ] || asked+=(--limit "$LIMIT")
[ -z "${INCLUDE_PATH:-}" ] || asked+=(--include_path "$INCLUDE_PATH")
[ -z "${DEVICE:-}" ] || asked+=(--device "$DEVICE")
