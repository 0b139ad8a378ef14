"""Everything that knows the harness's files: a folder -> Run; lines -> columns -> Samples."""
