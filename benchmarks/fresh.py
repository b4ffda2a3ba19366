"""Runs one script in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import uvloop

from benchmarks.contract import Options, Row


def in_fresh_process(name: str, options: Options) -> list[Row]:
    """Run one script where no other has left anything: memory, caches, servers."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(run, name, options).result()


def run(name: str, options: Options) -> list[Row]:
    """Run one script on uvloop, which all sides get."""
    script = importlib.import_module(f"benchmarks.{name}")
    rows: list[Row] = uvloop.run(script.run(options))
    return rows
