"""Files: the harness's, a folder -> Run, lines -> columns -> Samples; and ours, written whole."""
