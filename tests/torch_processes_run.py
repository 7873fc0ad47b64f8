"""What test_distribution_torch.py runs in each of several processes:

    python torch_processes_run.py OUT PROCESSES PROCESS PORT [synchronized | local]

With batch norms of that kind, or none, trains with the loop of docs/guide/devices.md, and writes the weights and all
masks that there were.
"""

import os
import pathlib
import re
import sys

import numpy as np

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "guide" / "devices.md"
(LOOP,) = [block for block in re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
           if "DistributedDataParallel" in block]  # fmt: skip
exec(LOOP)

import keras  # noqa: E402, as the page has it: after the backend is chosen
import torch  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from keras_condense.layers import BatchNormalization, CondenseDense, LearnedGroupConv2D, condensable_layers  # noqa: E402
from keras_condense.training import batch_norm_statistics  # noqa: E402


def main(out, processes, process, port, kind=None):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://localhost:{port}", rank=process, world_size=processes)
    keras.utils.set_random_seed(7 + process)  # the weights are to come from the first
    learned = [LearnedGroupConv2D(8, size, group_lasso=0.05) for size in (1, 3)]
    ends = [keras.layers.GlobalAveragePooling2D(), CondenseDense(3)]
    norms = [BatchNormalization(), keras.layers.BatchNormalization(scale=False)] if kind else []
    model = keras.Sequential([keras.Input((4, 4, 8)), *learned, *norms, keras.layers.Dropout(1e-9), *ends])
    begun = [weight.numpy() for weight in model.trainable_variables] if process == 0 else None
    masks, dropped = [], []

    def look(*_):
        for layer in condensable_layers(model):
            mask, kernel = (keras.ops.convert_to_numpy(value) for value in (layer.kernel_mask(), layer.kernel))
            masks.append(mask.ravel())
            dropped.append(abs(kernel * (1 - mask)).max())

    register_optimizer_step_post_hook(look)
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.normal(size=(24, 4, 4, 8)).astype("float32"))
    data = torch.utils.data.TensorDataset(images, torch.arange(24) % 3)
    with batch_norm_statistics(model, kind):
        train(model, data, epochs=6, batch_size=8)  # noqa: F821
    assert all(layer.stage == layer.final_stage for layer in condensable_layers(model))
    assert begun is None or any((a != b.numpy()).any() for a, b in zip(begun, model.trainable_variables, strict=True))
    drawn = keras.ops.convert_to_numpy(keras.layers.Dropout(0.5)(np.ones((4, 8)), training=True))
    weights = {f"weight{number}": weight.numpy() for number, weight in enumerate(model.trainable_variables)}
    weights |= {f"moving{number}": norm.moving_variance.numpy() for number, norm in enumerate(norms)}
    np.savez(out, masks=np.concatenate(masks), dropped=dropped, drawn=drawn, **weights)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ["MASTER_ADDR"] = "localhost"
    main(sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:])
