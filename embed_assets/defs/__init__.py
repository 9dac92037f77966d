"""One folder per pipeline, each with a defs.yaml."""
