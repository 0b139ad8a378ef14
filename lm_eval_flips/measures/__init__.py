"""The measures: tensors in, a frozen result out. No files, no printing, no harness."""
