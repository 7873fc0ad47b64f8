"""Experiment trackers with stores of their own in a folder, and readers of what was written there.

Each is a context in which a training runs, with callbacks for it. `read()` then gives for each name in the logs its
epochs and values, in the order in which they were written. `python trackers.py FOLDER` trains on the backend of
KERAS_BACKEND, and writes into `kept.json` what `fit` returns and what each tracker kept.
"""

import contextlib
import json
import os
import pathlib
import struct
import sys

import keras

_BLOCK = 32768  # of the file of an offline run
_WHOLE, _FIRST, _LAST = 1, 2, 4  # parts of its records


class TensorBoard:
    """Keras' own callback, with all that it can draw of a model."""

    needs = ("tensorboard", "tensorflow")

    def __init__(self, folder):
        self._folder = folder / "tensorboard"

    @contextlib.contextmanager
    def run(self):
        yield [keras.callbacks.TensorBoard(self._folder, histogram_freq=1, write_graph=True)]

    def read(self):
        from tensorboard.util.tensor_util import make_ndarray

        accumulator = self.accumulator()
        tags = [tag for tag in accumulator.Tags()["tensors"] if tag.startswith("epoch_")]
        return {
            tag.removeprefix("epoch_"): [
                (event.step, float(make_ndarray(event.tensor_proto))) for event in accumulator.Tensors(tag)
            ]
            for tag in tags
        }

    def accumulator(self):
        """TensorBoard's own reader of the training's files."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        size = {"tensors": 0}
        return EventAccumulator(str(self._folder / "train"), size, purge_orphaned_data=False).Reload()


class Mlflow:
    """A store of files, in which a training that goes on is the same run."""

    needs = ("mlflow.keras",)

    def __init__(self, folder):
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # the other stores need more than mlflow-skinny
        os.environ["MLFLOW_AUTOLOGGING_TESTING"] = "true"  # what fails in its callback ends the training
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        self._store, self._run = (folder / "mlruns").as_uri(), None

    @contextlib.contextmanager
    def run(self):
        import mlflow

        mlflow.set_tracking_uri(self._store)
        with mlflow.start_run(run_id=self._run) as run:
            self._run, self._files = run.info.run_id, run.info.artifact_uri
            yield [mlflow.keras.MlflowCallback()]

    def read(self):
        import mlflow

        client = mlflow.MlflowClient(self._store)
        names = client.get_run(self._run).data.metrics
        histories = {name: client.get_metric_history(self._run, name) for name in names}
        return {name: [(entry.step, entry.value) for entry in histories[name]] for name in histories}

    def summary(self):
        """What it kept of the model."""
        import mlflow

        return mlflow.artifacts.load_text(f"{self._files}/model_summary.txt")


class Wandb:
    """Runs without a network, each in a file of its own; one that goes on has the first one's name."""

    needs = ("wandb", "tensorflow")
    beginning = "epoch/"

    def __init__(self, folder):
        self._folder, self._run = folder, None
        places = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
        os.environ.update(dict.fromkeys(places, str(folder)))
        os.environ.update({"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"})

    @contextlib.contextmanager
    def run(self):
        import wandb

        with wandb.init(project="trackers", dir=self._folder, id=self._run, resume="allow") as run:
            self._run = run.id
            yield self.callbacks()

    def callbacks(self):
        from wandb.integration.keras import WandbMetricsLogger

        return [WandbMetricsLogger()]

    def read(self):
        import wandb
        from wandb.proto.wandb_internal_pb2 import Record

        wandb.teardown()  # its own process writes the files, some time after the run
        files = sorted(self._folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
        read = {}
        for record in (Record.FromString(data) for path in files for data in _records(path.read_bytes())):
            if record.WhichOneof("record_type") != "history":
                continue
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            row = {name.removeprefix(self.beginning): json.loads(value) for name, value in items.items()}
            for name, value in row.items():
                read.setdefault(name, []).append((row["epoch"], value))
        return read


class WandbByHand(Wandb):
    """As docs/guide/callbacks.md has it for JAX, where wandb's callback can't read a rate that follows a schedule."""

    needs = ("wandb",)
    beginning = ""

    def callbacks(self):
        import wandb

        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wandb.log({"epoch": epoch} | logs))]


def _records(content):
    """The records of a file in LevelDB's format of logs after wandb's own 7 bytes, for which it has a reader in Go."""
    assert content[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(content):
        if _BLOCK - place % _BLOCK < 7:  # no room for the beginning of a part: zeros
            place += _BLOCK - place % _BLOCK
            continue
        _, length, part = struct.unpack_from("<IHB", content, place)
        whole = (b"" if part in (_WHOLE, _FIRST) else whole) + content[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (_WHOLE, _LAST):
            yield whole


def main(folder):
    from scheduled_networks import fit, network

    from keras_condense.callbacks import CondenseSchedule

    model = network()
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 18)), "mse")
    trackers = [TensorBoard(folder), Mlflow(folder), WandbByHand(folder)]
    with contextlib.ExitStack() as stack:
        watching = [callback for tracker in trackers for callback in stack.enter_context(tracker.run())]
        history = fit(model, *watching, CondenseSchedule()).history
    returned = {name: list(enumerate(map(float, history[name]))) for name in history}
    kept = json.dumps([returned, *(tracker.read() for tracker in trackers)])
    (folder / "kept.json").write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
