"""A fleet on paper: what one thing costs, measured; how often it happens, by the real decision code in simulated
time; and what that comes to. `python -m benchmarks.scale` prints it, and keeps it in docs/explanation/scale.md.
"""
