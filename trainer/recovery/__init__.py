"""Runs that heal: faults and good checkpoints, the records at fault found by trying them, the way around them."""
