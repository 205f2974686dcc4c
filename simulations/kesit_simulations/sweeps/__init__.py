"""Sweeps: grids of simulated studies and baselines, in many processes, as one table of results.

`spec` reads a sweep file, `work` computes one cell, `pool` spreads cells over processes, `journal`
keeps what is done, `table` writes it, `engine` holds them together, `plots` draws it.
"""
