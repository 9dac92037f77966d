"""How good a shard's vectors are: metrics, checks that can block, plots and the corpus report.

Plain functions on numpy arrays and polars frames. Knows no table, no encoder and no Dagster.
"""
