"""Many compressed runs of one folder against one baseline: a board that is cheap to renew."""

# How each kind of file says that it is a board, and may be replaced by the next one.
MADE_BY = b"lm-eval-flips leaderboard"
CSV_BEGINS = b"baseline_model,baseline_path,model,path,run,scheme,date,level,task,"
MARKDOWN_BEGINS = b"<!-- " + MADE_BY + b" -->"
JSON_BEGINS = b'{"made_by": "' + MADE_BY + b'"'
