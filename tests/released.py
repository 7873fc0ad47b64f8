"""Small networks of pytorchcv's own classes, random all through, and a server that publishes them as releases are."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import importlib
import pathlib
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest

from keras_condense import applications
from keras_condense.applications import pretrained, pretrained_rows
from keras_condense.applications.preprocessing import CIFAR, IMAGENET
from keras_condense.applications.pretrained import CLASSES, PretrainedWeights


@dataclasses.dataclass(frozen=True)
class Family:
    """A network of pytorchcv and the arguments that make ours the same."""

    theirs: Callable[[int], Any]  # called with the number of classes
    constructor: str
    arguments: Mapping[str, Any]
    size: int  # of the images
    dataset: str = "imagenet"


def _class(module: str, name: str) -> Callable[..., Any]:
    def build(*arguments: Any, classes: int, **keywords: Any) -> Any:
        models = importlib.import_module(f"pytorchcv.models.{module}")
        return getattr(models, name)(*arguments, num_classes=classes, **keywords)

    return build


def _network(module: str, name: str, *arguments: Any, **keywords: Any) -> Callable[[int], Any]:
    return lambda classes: _class(module, name)(*arguments, classes=classes, **keywords)


def _condense(channels: list[list[int]], stem: int, groups: int) -> Callable[[int], Any]:
    return _network("condensenet", "CondenseNet", channels, stem, groups)


_CIFAR_STEM = {"stages": (2, 2), "growth_rate": 4, "stem": "cifar"}
FAMILIES = {
    "condensenet g4": Family(
        _condense([[24, 32], [48]], 16, 4), "CondenseNet",
        {"stages": (2, 1), "growth_rates": (8, 16), "classifier_condense_factor": 2}, 28,
    ),
    "condensenet g8": Family(
        _condense([[24], [40]], 16, 8), "CondenseNet",
        {"stages": (1, 1), "growth_rates": (8, 16), "groups": 8, "condense_factor": 8,
         "classifier_condense_factor": 2}, 28,
    ),
    "densenet imagenet": Family(
        _network("densenet", "DenseNet", [[12, 16], [12, 16]], 8), "DenseNet",
        {"stages": (2, 2), "growth_rate": 4}, 56,
    ),
    "densenet bc": Family(
        _network("densenet_cifar", "CIFARDenseNet", [[12, 16], [12, 16]], 8, True), "DenseNet",
        _CIFAR_STEM, 16, "cifar100",
    ),
    "densenet plain": Family(
        _network("densenet_cifar", "CIFARDenseNet", [[12, 16], [12, 16]], 8, False), "DenseNet",
        _CIFAR_STEM | {"bottleneck": False, "stem_filters": 8}, 16, "svhn",
    ),
    "resnext": Family(
        _network("resnext", "ResNeXt", [[256, 256], [512]], 64, 4, 2), "ResNeXt",
        {"stages": (2, 1), "cardinality": 4, "bottleneck_width": 2}, 56,
    ),
    "resnet": Family(
        _network("resnet", "ResNet", [[256], [512]], 64, True, False), "ResNeXt",
        {"stages": (1, 1), "cardinality": 1, "bottleneck_width": 64}, 56,
    ),
    "shufflenet g1": Family(
        _network("shufflenet", "ShuffleNet", [[36, 36], [72]], 6, 1), "ShuffleNet",
        {"groups": 1, "width": 0.25, "stages": (2, 1), "stem_filters": 6}, 64,
    ),
    "shufflenet g3": Family(
        _network("shufflenet", "ShuffleNet", [[180], [360, 360]], 18, 3), "ShuffleNet",
        {"groups": 3, "width": 0.75, "stages": (1, 2)}, 64,
    ),
    "squeezenet 1.0": Family(_network("squeezenet", "squeezenet_v1_0"), "SqueezeNet", {}, 96),
    "squeezenet 1.1": Family(_network("squeezenet", "squeezenet_v1_1"), "SqueezeNet", {"version": "1.1"}, 95),
    "squeezenet bypass": Family(_network("squeezenet", "squeezeresnet_v1_0"), "SqueezeNet", {"bypass": "simple"}, 63),
}  # fmt: skip


def randomized(family: Family, classes: int):
    """The network of pytorchcv in evaluation mode, for images of any size, with random statistics and indices."""
    import torch

    torch.manual_seed(0)
    network = family.theirs(classes).eval()
    for parent in (network.features, network.output):
        if hasattr(parent, "final_pool"):  # which is for one size of images
            parent.final_pool = torch.nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for values, low, high in (
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.2, 0.2),
                    (module.running_var, 0.5, 1.5),
                ):
                    values.uniform_(low, high)
        for module in network.modules():
            if hasattr(module, "index"):
                _choose_inputs(module, torch)
    return network


def _choose_inputs(module: Any, torch: Any) -> None:
    """Give each group random inputs; a channel that several groups read has one batch norm in the trained network."""
    count = len(module.index)
    if hasattr(module, "linear"):
        module.index.copy_(torch.randperm(2 * count)[:count])
        return
    groups = module.conv.groups
    module.index.copy_(torch.cat([torch.randperm(count)[: count // groups] for _ in range(groups)]))
    for values in (module.bn.weight, module.bn.bias, module.bn.running_mean, module.bn.running_var):
        values.copy_(values.clone()[module.index])


def saved(state: Any, path: pathlib.Path, new_format: bool = True) -> pathlib.Path:
    import torch

    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    return path


def release(folder: pathlib.Path, state: Any, name: str = "net", new_format: bool = True) -> dict[str, str]:
    """Put a zip of the saved state into the folder of a server; returns `release` and `sha1` of its row."""
    path = saved(state, folder / f"{name}.pth", new_format)
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    file = f"v1/{name}-0100-{sha1[:8]}.pth.zip"
    (folder / "v1").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, f"{name}-0100-{sha1[:8]}.pth")
    path.unlink()
    return {"release": file, "sha1": sha1}


def row_of(family: Family, files: Mapping[str, str]) -> PretrainedWeights:
    preprocessing = dataclasses.replace(IMAGENET if family.dataset == "imagenet" else CIFAR, size=family.size)
    return PretrainedWeights(
        constructor=family.constructor,
        arguments=family.arguments,
        dataset=family.dataset,
        license="MIT",
        preprocessing=preprocessing,
        **files,
    )


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; of what lies under /cut/ only the first half, though its whole length is announced."""

    def log_message(self, *_: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        self.server.requests.append(self.path)
        if self.server.barrier is not None:
            self.server.barrier.wait(timeout=200)
        data = source.read()
        outputfile.write(data[: len(data) // 2] if self.path.startswith("/cut/") else data)


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[http.server.ThreadingHTTPServer]:
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests, server.barrier = [], None
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def outputs_of(network: Any, images: np.ndarray) -> np.ndarray:
    """What a network of PyTorch makes of images (batch, height, width, channels)."""
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


@contextlib.contextmanager
def publishing(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Callable[..., tuple]]:
    """A function that publishes a family's network on the loopback address, in the place of the table's.

    It returns the network and its row, and has the attributes `server`, `folder` (of the server) and `cache` (Keras').
    """
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    with serving(folder) as server:
        monkeypatch.setattr(pretrained_rows, "RELEASES", f"http://127.0.0.1:{server.server_port}")

        def publish(name: str, new_format: bool = True, state: Any = None) -> tuple[Any, PretrainedWeights]:
            family = FAMILIES[name]
            network = randomized(family, CLASSES[family.dataset])
            files = release(folder, network.state_dict() if state is None else state, new_format=new_format)
            row = row_of(family, files)
            monkeypatch.setattr(pretrained, "WEIGHTS", (row,))
            return network, row

        publish.server, publish.folder, publish.cache = server, folder, tmp_path / "cache/models"
        yield publish


def build(row: PretrainedWeights, **arguments: Any) -> keras.Model:
    """The network of a row, with its weights; logits unless asked otherwise."""
    constructor = getattr(applications, row.constructor)
    if arguments.get("include_top", True):
        arguments = {"classes": row.classes, "classifier_activation": None} | arguments
    return constructor(**row.arguments, weights=row.dataset, **arguments)


def images_of(row: PretrainedWeights, count: int = 2) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, row.preprocessing.size, row.preprocessing.size, 3))
    return row.preprocessing.normalize(pixels.astype("uint8"))


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))  # at once: tracing takes longer


def assert_close(ours: np.ndarray, theirs: np.ndarray, share: float = 1e-4) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * np.abs(theirs).max())
