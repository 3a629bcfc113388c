"""The least that a file of dialogues costs: read it, parse it, write it. Ratios are against this command."""

import sys

import polars as pl

if __name__ == "__main__":
    pl.scan_ndjson(sys.argv[1]).sink_parquet(sys.argv[2], compression="zstd")
