"""Write the card of every packaged network beside its weights; with `--check`, only say whether they are up to date.

All figures come from the table of weights and from results/trainings.csv, accuracy.csv and accuracy_forms.csv.

    python benchmarks/model_cards.py
"""

import argparse
import pathlib
import sys

from common import RESULTS, read_rows
from readme_tables import readable

from keras_condense.applications.pretrained import WEIGHTS, PretrainedWeights

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "keras_condense" / "applications" / "weights"
TRAINED_ON = {"cifar10": "the 50,000 training images of CIFAR-10 (32x32 pixels, 10 classes)"}
FORMS = {
    "form": "form",
    "error": "test error, %",
    "file_bytes": "file, bytes",
    "million_instructions": "million instructions",
    "ms_1_thread": "ms",
}


def duration(seconds: str) -> str:
    hours, minutes = divmod(round(float(seconds) / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def recipe(training: dict) -> str:
    """How a network was trained, in a sentence."""
    parts = [
        f"{training['epochs']} epochs of batches of {training['batch_size']}",
        f"SGD with Nesterov momentum, learning rate {training['learning_rate']} falling to 0 ({training['decay']})",
        f"weight decay {training['weight_decay']}",
    ]
    if float(training["label_smoothing"]):
        parts.append(f"label smoothing {training['label_smoothing']}")
    if training["small_crops"]:
        parts.append("small crops first")
    parts.append("random crops and mirror images")
    if training["mixed_precision"] == "True":
        parts.append("bfloat16 with float32 weights")
    return "; ".join(parts)


def card(row: PretrainedWeights, training: dict, network: dict, forms: list[dict]) -> str:
    """The text of one network's card."""
    constructor, data_set = row.constructor, row.dataset
    lines = [f"| {' | '.join(FORMS.values())} |", "|---" * len(FORMS) + "|"]
    lines += [f"| {' | '.join(readable(form[column]) for column in FORMS)} |" for form in forms]
    first, images = forms[0], row.preprocessing
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (images.mean, images.std))
    published = f"; the paper reports {network['published_error']} % after 300" if network["published_error"] else ""
    smoothed = " (label smoothing makes them less certain)" if float(training["label_smoothing"]) else ""
    return f"""\
<!-- written by benchmarks/model_cards.py -->
# {constructor}, {data_set}

`keras_condense.applications.{constructor}(weights="{data_set}")`: {readable(first["parameters"])} parameters and
{readable(first["macs"])} multiply-adds once it is condensed.

**For**: classifying small colour photographs into the classes of {data_set}; a start for training on similar images;
measuring what condensing, exporting and quantizing do to a trained network.

**Trained on**: {TRAINED_ON[data_set]}. The test images were looked at once, after the training.

**How**: {recipe(training)}. {duration(training["seconds"])} on {training["device"]}, at the lowest priority beside
other work.

    {training["command"]}

**Accuracy**: {network["error"]} % of the {readable(network["test_images"])} test images are classified wrongly after
{network["epochs"]} epochs{published}. Every form that it is exported to, batch 1, one thread:

{chr(10).join(lines)}

Instructions are those of one inference on an emulated Cortex-A76; milliseconds on {first["device"]};
{first["versions"]}; {first["date"]}; `results/accuracy_forms.csv`.

**Preprocessing**: RGB, pixels in [0, 1], mean ({mean}), standard deviation ({std}):
`pretrained.find_weights("{constructor}", "{data_set}").preprocessing.normalize(images)`, or
`keras_condense.datasets.load("{data_set}")`.

**Limits**: it knows ten classes and names one of them whatever it is shown; images of other sizes, cameras or subjects
were not tested. Its scores are not calibrated{smoothed}.

**File**: `{row.packaged}`, {readable(training["file_bytes"])} bytes, SHA-256
`{row.sha256}`. Licence: {row.license}; the images of CIFAR-10 come from the Tiny Images collection and carry no licence
of their own.
"""


def cards() -> dict[pathlib.Path, str]:
    """The path and the text of every card.

    Raises:
        SystemExit: a packaged network has no results.
    """
    texts = {}
    for row in WEIGHTS:
        if not row.packaged:
            continue
        found = {}
        for name in ("trainings", "accuracy", "accuracy_forms"):
            key = {"network": row.constructor, "data_set": row.dataset}
            found[name] = [other for other in read_rows(RESULTS / f"{name}.csv") if other.items() >= key.items()]
            if not found[name]:
                raise SystemExit(f"error: results/{name}.csv must have a row for {key}. Run benchmarks/accuracy.py.")
        path = FOLDER / row.packaged.replace(".weights.h5", ".md")
        texts[path] = card(row, found["trainings"][0], found["accuracy"][0], found["accuracy_forms"])
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a card is out of date")
    arguments = parser.parse_args()
    outdated = 0
    for path, text in cards().items():
        if arguments.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                print(f"{path.name}: differs from results/*.csv; run `python benchmarks/model_cards.py`")
                outdated = 1
        else:
            path.write_text(text, encoding="utf-8")
    return outdated


if __name__ == "__main__":
    sys.exit(main())
