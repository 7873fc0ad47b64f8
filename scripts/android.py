"""A phone on the other side of adb: LiteRT's `benchmark_model` runs there, and what it prints is read."""

import dataclasses
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess

__all__ = ["Phone", "Timing", "connected", "read_timing"]

FOLDER = "/data/local/tmp"  # where programs may be run without an app
PROGRAM = f"{FOLDER}/benchmark_model"
_COUNTS = re.compile(r"\bcount=(\d+)\b.*")
_NUMBERS = re.compile(r"\b(\w+)=([-+.\de]+)")
_LIMIT = 600  # seconds that one command may take


@dataclasses.dataclass(frozen=True)
class Timing:
    """What `benchmark_model` says of one file: milliseconds of an inference.

    Attributes:
        runs: inferences.
        average_ms: their mean.
        minimum_ms: the fastest.
        deviation_ms: their standard deviation.
        median_ms: None where the program is too old to say it.
    """

    runs: int
    average_ms: float
    minimum_ms: float
    deviation_ms: float
    median_ms: float | None


def read_timing(output: str) -> Timing:
    """Read the last line of counts, which is of the inferences after the warm-up; times are in microseconds.

    Example:
        >>> read_timing("count=50 first=2600 curr=2610 min=2500 max=3000 avg=2600 std=40").minimum_ms
        2.5
    """
    lines = [match[0] for match in _COUNTS.finditer(output)]
    numbers = {name: float(value) for name, value in _NUMBERS.findall(lines[-1])} if lines else {}
    if missing := {"count", "avg", "min", "std"} - numbers.keys():
        said = " ".join(output.split())[-300:] or "nothing"
        raise ValueError(
            f"`benchmark_model` must print {', '.join(sorted(missing))} of its inferences, and printed: {said}. Run it "
            f"by hand: adb shell {PROGRAM} --graph=FILE."
        )
    median = numbers.get("median")
    return Timing(
        runs=int(numbers["count"]),
        average_ms=numbers["avg"] / 1e3,
        minimum_ms=numbers["min"] / 1e3,
        deviation_ms=numbers["std"] / 1e3,
        median_ms=None if median is None else median / 1e3,
    )


class Phone:
    """A connected device, by its serial number."""

    def __init__(self, serial: str):
        self.serial = serial

    def adb(self, *words: str) -> str:
        """Run an adb command for this device and return what it prints."""
        return _run("-s", self.serial, *words)

    @property
    def described(self) -> str:
        """Maker, model, chip and Android's version."""
        names = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.version.release")
        maker, model, chip, version = (self.adb("shell", "getprop", name).strip() for name in names)
        return ", ".join(part for part in (f"{maker} {model}".strip(), chip, f"Android {version}".rstrip()) if part)

    def prepare(self, program: str | None) -> None:
        """Have `benchmark_model` on the device: pushed from here, or there already.

        Raises:
            ValueError: it is neither.
        """
        if program is not None:
            self.adb("push", program, PROGRAM)
            self.adb("shell", "chmod", "+x", PROGRAM)
        elif "yes" not in self.adb("shell", f"[ -x {PROGRAM} ] && echo yes || echo no"):
            raise ValueError(
                f"`--benchmark-model` must be given for a device that has no {PROGRAM}. Download it as "
                "docs/on_a_phone.md says, and give its path."
            )

    def push(self, path: str | pathlib.Path, number: int) -> str:
        """Bring a file to the device; its place there."""
        place = f"{FOLDER}/keras_condense_{number}.tflite"
        self.adb("push", str(path), place)
        return place

    def time(self, place: str, runs: int, threads: int) -> Timing:
        """Time a file that is on the device."""
        options = {"graph": place, "num_runs": runs, "num_threads": threads, "use_xnnpack": "true"}
        words = [PROGRAM, *(f"--{name}={value}" for name, value in options.items())]
        return read_timing(self.adb("shell", shlex.join(words)))

    def remove(self, places: list[str]) -> None:
        """Remove files from the device."""
        self.adb("shell", shlex.join(["rm", "-f", *places]))


def connected(serial: str | None) -> Phone:
    """The device with a serial number, or the only one there is.

    Raises:
        ValueError: no adb, no such device, several of them, or one that does not trust this computer.
    """
    if shutil.which("adb") is None:
        raise ValueError("`adb` must be installed for --adb, and is not on the PATH. Install Android's platform-tools.")
    rows = [line.split() for line in _run("devices").splitlines()[1:] if line.strip()]
    states = {row[0]: row[1] for row in rows if len(row) > 1}
    if not states:
        raise ValueError("A device must be connected for --adb, and adb sees none. Plug it in, with USB debugging on.")
    if serial is None and len(states) > 1:
        raise ValueError(f"`--adb` must name one of the devices {', '.join(states)}. Give its serial number.")
    serial = serial or next(iter(states))
    if serial not in states:
        raise ValueError(f"`--adb` (={serial!r}) must be a device that adb sees, one of {', '.join(states)}.")
    if states[serial] != "device":
        raise ValueError(
            f"Device {serial} must let this computer in, and is {states[serial]!r}. Unlock it and allow USB debugging."
        )
    return Phone(serial)


def of_rounds(timings: list[Timing]) -> dict[str, float]:
    """The columns of a file's rounds: medians over the rounds, and the fastest of all."""
    medians = [timing.average_ms if timing.median_ms is None else timing.median_ms for timing in timings]
    return {
        "median_ms": round(statistics.median(medians), 4),
        "minimum_ms": round(min(timing.minimum_ms for timing in timings), 4),
        "spread_ms": round(statistics.median(timing.deviation_ms for timing in timings), 4),
    }


def _run(*words: str) -> str:
    try:
        done = subprocess.run(["adb", *words], capture_output=True, text=True, timeout=_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"`adb {shlex.join(words)}` took more than {_LIMIT} s. Look at the device.") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise ValueError(f"`adb {shlex.join(words)}` failed: {said}. Look at the device.")
    return done.stdout + done.stderr
