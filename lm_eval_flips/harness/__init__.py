"""The harness's side: the only folder that imports lm_eval."""
