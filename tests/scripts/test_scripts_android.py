"""Timing on a phone, by a program that stands in for adb and notes what it is asked."""

import csv
import os
import stat
import sys

import android
import benchmark
import pytest

STAND_IN = """#!{python}
import json, os, sys
folder = os.environ["STAND_IN"]
words = sys.argv[1:]
with open(folder + "/asked", "a") as file:
    file.write(json.dumps(words) + "\\n")
state = json.load(open(folder + "/state.json"))
if words == ["devices"]:
    print("List of devices attached")
    for serial, how in state["devices"].items():
        print(serial + "\\t" + how)
    sys.exit()
assert words[0] == "-s"
verb, rest = words[2], words[3:]
if verb == "push":
    sys.exit(0 if os.path.isfile(rest[0]) else "no such file")
text = " ".join(rest)
if text.startswith("getprop"):
    print(state["properties"].get(rest[1], ""))
elif "&& echo yes" in text:
    print("yes" if state["program"] else "no")
elif "--graph=" in text:
    print(state["output"])
    sys.exit(state["code"])
"""
OUTPUT = """INFO: Initialized TensorFlow Lite runtime.
count=20 first=9000 curr=4000 min=3900 max=9000 avg=5000 std=900
count=50 first=4100 curr=4010 min=3950 max=4400 avg=4050 std=80 p5=3960 median=4020 p95=4300
Inference timings in us: Init: 20283, First inference: 9000, Warmup (avg): 5000, Inference (avg): 4050
"""


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """What the phone is like; the stand-in is on the PATH."""
    import json

    folder = tmp_path / "adb"
    folder.mkdir()
    (folder / "adb").write_text(STAND_IN.format(python=sys.executable))
    (folder / "adb").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("STAND_IN", str(folder))
    properties = {
        "ro.product.manufacturer": "Acme",
        "ro.product.model": "Fone 3",
        "ro.soc.model": "SX1",
        "ro.build.version.release": "15",
    }

    class Phone:
        def is_like(self, **changes):
            usual = {"devices": {"A1": "device"}, "program": False, "output": OUTPUT, "code": 0}
            (folder / "state.json").write_text(json.dumps({"properties": properties} | usual | changes))

        @property
        def asked(self):
            path = folder / "asked"
            return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    Phone().is_like()
    return Phone()


@pytest.fixture
def files(tmp_path):
    for name in ("a.tflite", "b.tflite", "benchmark_model"):
        (tmp_path / name).write_bytes(b"four")
    return [str(tmp_path / name) for name in ("a.tflite", "b.tflite")]


def test_files_are_timed_in_turn_on_the_phone(phone, files, tmp_path, capsys):
    table = tmp_path / "phone.csv"
    program = str(tmp_path / "benchmark_model")
    options = ["--adb", "--benchmark-model", program, "--rounds", "2", "--runs", "7", "--threads", "2"]
    assert benchmark.main([*files, *options, "--csv", str(table)]) == 0
    pushed = [words[3] for words in phone.asked if words[2:3] == ["push"]]
    assert pushed == [program, *files]
    timed = [words[3] for words in phone.asked if len(words) > 3 and "--graph=" in words[3]]
    places = [f"--graph=/data/local/tmp/keras_condense_{number}.tflite" for number in range(2)]
    assert [next(place for place in places if place in command) for command in timed] == places * 2
    assert all("--num_runs=7 --num_threads=2 --use_xnnpack=true" in command for command in timed)
    assert phone.asked[-5][3].startswith("rm -f ")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == files
    assert {(row["median_ms"], row["minimum_ms"], row["spread_ms"]) for row in rows} == {("4.02", "3.95", "0.08")}
    assert {row["device"] for row in rows} == {"Acme Fone 3, SX1, Android 15"}
    assert "Acme Fone 3, SX1, Android 15, benchmark_model, 2 threads, 2 rounds of 7 runs" in capsys.readouterr().out


def test_an_older_program_gives_the_mean():
    timing = android.read_timing("count=2 first=339304 curr=266325 min=266325 max=339304 avg=302814 std=36489")
    assert (timing.runs, timing.median_ms, timing.average_ms) == (2, None, 302.814)
    assert android.of_rounds([timing])["median_ms"] == 302.814


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"devices": {}}, [], "adb sees none. Plug it in"),
        ({"devices": {"A1": "device", "B2": "device"}}, [], "must name one of the devices A1, B2"),
        ({"devices": {"A1": "unauthorized"}}, [], "must let this computer in, and is 'unauthorized'"),
        ({}, ["--adb", "C3"], r"`--adb` (='C3') must be a device that adb sees, one of A1"),
        ({}, [], "`--benchmark-model` must be given for a device that has no /data/local/tmp/benchmark_model"),
        ({"program": True, "output": "Failed to load"}, [], "must print avg, count, min, std of its inferences"),
        ({"program": True, "code": 3}, [], "failed: "),
        ({}, ["--runtime", "tensorflow"], "is of this machine"),
        ({}, ["--runs", "0"], "`runs` (=0)"),
        ({}, ["--benchmark-model", "none"], "must be an existing file"),
    ],
)
def test_what_can_go_wrong_on_the_way(phone, files, fails, tmp_path, changes, options, message):
    phone.is_like(**changes)
    table = tmp_path / "phone.csv"
    options = options if "--adb" in options else ["--adb", *options]
    assert message in fails(benchmark.main, *files, "--csv", table, *options)
    assert not table.exists()


def test_without_adb(files, fails, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "`adb` must be installed for --adb" in fails(benchmark.main, *files, "--adb")
    assert "is for --adb" in fails(benchmark.main, *files, "--benchmark-model", "x")
    assert "must be an existing file" in fails(benchmark.main, tmp_path / "none.tflite", "--adb")
