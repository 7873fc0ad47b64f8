"""Kills one of two processes at random moments: the program of results/soak.csv, with fewer kills."""

import csv
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_nothing_is_lost_when_one_of_two_processes_is_killed():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "soak.py", "--kills", "20", "--epochs", "4", "--dry-run"],
        capture_output=True, text=True, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "20 kills, and every run ended like the unbroken one"


def test_the_guide_says_what_was_measured():
    with open(ROOT / "results" / "soak.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    (kills, within, timeout) = re.search(
        r"processes\s+(\d+) times.*ended within ([\d.]+) seconds, or after the (\d+)",
        (ROOT / "docs" / "guide" / "devices.md").read_text(), re.DOTALL,
    ).groups()  # fmt: skip
    assert len(rows) == int(kills)
    ended = [float(row["other_ended_after_s"]) for row in rows]
    assert all(seconds < float(within) or int(timeout) < seconds < int(timeout) + 1 for seconds in ended)
