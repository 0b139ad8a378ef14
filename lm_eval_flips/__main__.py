"""`python -m lm_eval_flips` is the `lm-eval-flips` command."""

from lm_eval_flips.cli import main

if __name__ == "__main__":
    main()
