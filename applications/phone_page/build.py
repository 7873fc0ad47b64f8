"""Build a page that runs two networks in the browser of a phone, side by side.

The digits network is trained at first (a minute; kept in runs/digits-application), CondenseNet-50 for CIFAR-10 comes
with the package. Needs npm, which fetches LiteRT.js.

    python applications/phone_page/build.py
    python -m http.server --directory runs/phone_page

A network of your own, .keras or .tflite, comes beside them, and stays until its files in OUTPUT/networks are removed.
Its card says what it takes and gives; a file without one needs the options that say so:

    python applications/phone_page/build.py --network mine.keras
    python applications/phone_page/build.py --network bare.keras --labels cat,dog --mean 0.5 --std 0.25
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator

import numpy as np
from page_networks import Network, Said, cifar10, digits, own, read_labels

import keras_condense as kc
from keras_condense.files import check_readable, write_bytes, write_text

HERE = pathlib.Path(__file__).resolve().parent
# the builds of LiteRT.js that a page on one thread loads: this one, or "compat" where the browser lacks relaxed SIMD
LITERT_BUILDS = ("litert_wasm_internal", "litert_wasm_compat_internal")


# --- the page ---------------------------------------------------------------------------------------------------------
def litert_packages() -> pathlib.Path:
    """The folder of LiteRT.js' packages, fetched by npm in the versions of package-lock.json."""
    packages = HERE / "node_modules" / "@litertjs"
    locked = json.loads((HERE / "package.json").read_text())["dependencies"]["@litertjs/core"]
    there = packages / "core" / "package.json"
    if there.exists() and json.loads(there.read_text())["version"] == locked:
        return packages
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("`npm` must be installed to fetch LiteRT.js, and is not. Install Node.js 20 or newer.")
    done = subprocess.run(
        [npm, "ci", "--omit=dev", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise OSError(f"`npm ci` in {HERE} must fetch LiteRT.js, and failed: {said} Connect to the network.")
    return packages


def page_files(packages: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """The page's files besides the networks: their place in it, and where they are copied from."""
    for path in sorted((HERE / "page").iterdir()):
        yield path.name, path
    for package in ("core", "wasm-utils"):
        yield f"litert/{package}/index.js", packages / package / "dist" / "index.js"
    for build in LITERT_BUILDS:
        for name in (f"{build}.js", f"{build}.wasm"):
            yield f"litert/wasm/{name}", packages / "core" / "wasm" / name


def write_page(output: pathlib.Path, networks: list[Network], packages: pathlib.Path) -> None:
    """Write the networks, the page and, last, the list of files that a browser keeps."""
    folder = output / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    for network in networks:
        write_bytes(folder / f"{network.name}.tflite", network.content)
        description = json.dumps(dataclasses.asdict(network.description), indent=1, ensure_ascii=False)
        write_text(folder / f"{network.name}.json", description)
    shipped = [network.name for network in networks]
    others = sorted({path.stem for path in folder.glob("*.tflite")} - set(shipped))
    index = [{"name": name, "title": title_of(folder / f"{name}.json")} for name in shipped + others]
    write_text(folder / "index.json", json.dumps(index, ensure_ascii=False))

    kept = ["./", "networks/index.json"]
    names = [urllib.parse.quote(entry["name"]) for entry in index]
    kept += [f"networks/{name}.{suffix}" for name in names for suffix in ("tflite", "json")]
    for place, source in page_files(packages):
        (output / place).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output / place, source.read_bytes())
        if not place.startswith("litert/wasm/"):  # the page adds the build that the browser needs
            kept.append(place)
    digest = hashlib.sha256()
    for path in sorted(path for path in output.rglob("*") if path.is_file() and path.name != "files.js"):
        digest.update(path.relative_to(output).as_posix().encode() + b"\0" + path.read_bytes())
    listed = json.dumps(kept, indent=1)
    write_text(output / "files.js", f'self.VERSION = "{digest.hexdigest()[:16]}";\nself.FILES = {listed};\n')


def title_of(path: pathlib.Path) -> str:
    return json.loads(path.read_text(encoding="utf-8"))["title"]


# --- the program ------------------------------------------------------------------------------------------------------
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/phone_page"), help="default: %(default)s"
    )
    parser.add_argument(
        "--digits",
        type=pathlib.Path,
        metavar="FOLDER",
        default=pathlib.Path("runs/digits-application"),
        help="a run of applications/digits/main.py, trained there if it is not (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=20, help="of that training (default: %(default)s)")
    mine = parser.add_argument_group("a network of your own", "the last three only for a file without a card")
    mine.add_argument("--network", metavar="FILE", help=".tflite, or .keras, which is exported")
    mine.add_argument("--labels", metavar="LABELS", help="a file with one on each line, or joined by commas")
    for name in ("mean", "std"):
        mine.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="X",
            help=f"{name} that the images were normalised with, of pixels in [0, 1]: one number, or one for a channel",
        )
    return parser


def check(settings: argparse.Namespace) -> Said | None:
    """Raise ValueError where the options don't fit together, before any work; return what they say of a network."""
    if settings.output.exists() and not settings.output.is_dir():
        raise ValueError(f"`--output` (={str(settings.output)!r}) must be a folder, and is a file. Choose another one.")
    values = {f"--{name}": getattr(settings, name) for name in ("labels", "mean", "std")}
    given = [f"`{name}`" for name, value in values.items() if value is not None]
    missing = [f"`{name}`" for name, value in values.items() if value is None]
    if settings.network is None:
        if given:
            raise ValueError(f"`--network` must be given with {' and '.join(given)}. Name the file that they describe.")
        return None
    path = check_readable("--network", settings.network)
    if path.suffix not in (".tflite", ".keras"):
        raise ValueError(
            f"`--network` (={settings.network!r}) must end in .tflite or .keras. Export it, or name it so."
        )
    if path.stem in ("digits", "cifar10", "index"):
        raise ValueError(
            f"`--network` (={settings.network!r}) must not be called {path.stem}: the page has such a file."
        )
    if kc.load_card(path) is not None:
        if given:
            raise ValueError(
                f"{' and '.join(given)} must not be given with `--network` (={settings.network!r}), whose card says "
                "what it takes and gives. Leave out all three."
            )
        return None
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be given with `--network` (={settings.network!r}), which has no card. Save "
            "it with one (`kc.saving.save_model(model, path, card)`, or `card=` of export_tflite), or give its labels "
            "in their order and what its images were normalised with (--mean 0 --std 1 for pixels in [0, 1])."
        )
    if not np.isfinite(settings.mean + settings.std).all() or min(settings.std) <= 0:
        raise ValueError(
            f"`--mean` (={settings.mean}) and `--std` (={settings.std}) must be numbers, and --std above 0. "
            "Leave pixels as they are, in [0, 1], with --mean 0 --std 1."
        )
    return Said(read_labels(settings.labels), settings.mean, settings.std)


def main(arguments: list[str] | None = None) -> None:
    settings = parser().parse_args(arguments)
    said = check(settings)
    packages = litert_packages()
    mine = [] if settings.network is None else [own(pathlib.Path(settings.network), said)]
    networks = [digits(settings.digits, settings.epochs), cifar10(), *mine]
    write_page(settings.output, networks, packages)
    for network in networks:
        print(f"{network.description.title}: {len(network.content):,} bytes")
    print(f"Serve it with: python -m http.server --directory {settings.output}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
