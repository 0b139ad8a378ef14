"""A judge: a model behind an OpenAI-compatible endpoint that grades answers, or compares two.

What it is asked and what it replies is kept beside the run, in `judgements/`, and is never anything
but data: no reply is run, followed or shown unescaped.
"""
