"""One script per claim: `python -m benchmarks [names] [--quick] [--json FILE]`.

A script is a module of this folder that has `async def run(options: Options) -> list[Row]`, both from
`benchmarks.contract`. It starts the servers that it needs and stops them; each script runs in a fresh process
on uvloop. Sides are compared by turns in one run (`benchmarks.rounds`), because absolute times on a shared
machine are noise and ratios are not.
"""
