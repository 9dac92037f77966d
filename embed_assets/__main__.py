"""`python -m embed_assets`."""

from embed_assets.cli import main

main()
