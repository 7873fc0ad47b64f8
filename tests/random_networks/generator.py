"""Random programs of this package's layers among Keras' own."""

import re

import keras
import numpy as np

import keras_condense as kc
from random_networks.blocks import Blocks
from random_networks.programs import Program, needed
from random_networks.settings import random_setting

ACTIVATIONS = ["relu"] * 6 + ["hard_silu"] * 3 + ["silu", "sigmoid", "tanh", "elu", "gelu", "softplus", "relu6"]


IMAGE_STEPS = {
    "dense_layer": 4, "dense_block": 4, "learned": 4, "grouped": 5, "convolution": 2, "depthwise": 2, "norm": 4,
    "activate": 4, "index": 3, "shuffle": 2, "scatter": 1, "pad": 1, "pool": 2, "identity": 1, "pair": 3,
    "concatenate": 4, "attention": 1, "shared": 1, "nested": 1, "inverted": 3, "separable": 1, "rescaled": 1,
}  # fmt: skip
# what may stand in a sparse beginning
SPARSE_STEPS = {
    "dense_layer": 4, "dense_block": 4, "learned": 1, "grouped": 2, "norm": 2, "index": 2, "shuffle": 1, "pair": 1,
    "concatenate": 2, "activate": 1, "inverted": 6, "attention": 2, "separable": 1,
}  # fmt: skip


class Generator(Blocks):
    """Writes a program, one line after the other, and calls each line at once to know what shape comes out."""

    def __init__(self, seed: int):
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.names = {"keras": keras, "L": keras.layers, "K": kc.layers, "np": np}

    # --- helpers ---
    def line(self, expression: str, name: str | None = None) -> str:
        name = name or f"x{len(self.lines)}"
        line = f"{name} = {expression}"
        exec(line, self.names)
        self.lines.append(line)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.names[name].shape[1:])

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def choice(self, values):
        return values[int(self.random.integers(len(values)))]

    def divisor(self, number: int, largest: int = 8) -> int:
        return self.choice([d for d in range(1, min(number, largest) + 1) if number % d == 0])

    def activation(self, channels: int) -> str:
        name = self.choice(ACTIVATIONS + ["softmax"] * (channels > 1))
        return name

    def maybe_activation(self, channels: int) -> str:
        return f", activation={self.activation(channels)!r}" if self.chance(0.35) else ""

    # --- layers of images ---
    def window(self, x: str, ours: bool = True) -> str:
        """Kernel size, strides, padding and dilation that the image is large enough for."""
        height, width, channels = self.shape(x)
        size = self.choice([1, 1, 3, 3, 3, 2, (1, 3), (3, 2), 5])
        sizes = size if isinstance(size, tuple) else (size, size)
        padding = self.choice(["same", "same", "valid"])
        if padding == "valid" and (height < sizes[0] or width < sizes[1]):
            padding = "same"
        text = f"{size}, padding={padding!r}"
        kind = self.random.random()
        if kind < 0.25:
            strides = self.choice([2, 2, (2, 1), (1, 2), 3])
            if channels == 1 and not ours and isinstance(strides, tuple):
                strides = 2  # TensorFlow's own op is wrong for (1, 2)
            text += f", strides={strides}"
        elif kind < 0.35 and padding == "same":
            text += f", dilation_rate={self.choice([2, (1, 2), (2, 3)])}"
        return text

    def filters(self, groups: int) -> int:
        return groups * int(self.random.integers(1, max(2, 24 // groups + 1)))

    def learned(self, x: str) -> str:
        channels = self.shape(x)[-1]
        groups = self.choice([1, 2, 3, 4, 8])
        filters = self.filters(groups)
        if self.chance(0.2):
            plan = "pruned_fraction=0.4, drops_at=(0.2, 0.5)"
        else:
            plan = f"condense_factor={self.divisor(channels)}"
        bias = f", use_bias={self.chance(0.3)}"
        window = self.window(x) if self.chance(0.4) else "1"
        return self.line(
            f"K.LearnedGroupConv2D({filters}, {window}, groups={groups}, {plan}{bias}"
            f"{self.maybe_activation(filters)})({x})"
        )

    def grouped(self, x: str) -> str:
        groups = self.divisor(self.shape(x)[-1], 16)
        filters = self.filters(groups)
        window = self.choice(["1", "3, padding='same'", self.window(x)])
        bias = f", use_bias={self.chance(0.3)}"
        return self.line(
            f"K.GroupConv2D({filters}, {window}, groups={groups}{bias}{self.maybe_activation(filters)})({x})"
        )

    def convolution(self, x: str) -> str:
        filters = self.filters(1)
        window = self.window(x, ours=False)
        return self.line(f"L.Conv2D({filters}, {window}{self.maybe_activation(filters)})({x})")

    def depthwise(self, x: str) -> str:
        height, width, channels = self.shape(x)
        multiplier = f", depth_multiplier={self.choice([1, 1, 1, 2])}"
        strides = f", strides={self.choice([1, 1, 2])}"
        size = self.choice([1, 3, 3, 2])
        padding = "valid" if min(height, width) >= size and self.chance(0.3) else "same"
        if self.chance(0.1):
            strides = ", dilation_rate=2"
            padding = "same"
        return self.line(
            f"L.DepthwiseConv2D({size}, padding={padding!r}{strides}{multiplier}, use_bias={self.chance(0.5)}"
            f"{self.maybe_activation(channels)})({x})"
        )

    def norm(self, x: str) -> str:
        kind = self.choice(["K", "K", "L"])
        missing = "".join(f", {name}=False" for name in ("scale", "center") if self.chance(0.15))
        return self.line(f"{kind}.BatchNormalization(epsilon={self.choice([1e-5, 1e-3])}{missing})({x})")

    def activate(self, x: str) -> str:
        channels = self.shape(x)[-1]
        return self.line(
            self.choice(
                [f"L.ReLU()({x})"] * 4
                + [f"L.ReLU(max_value=6.0)({x})", f"L.LeakyReLU(negative_slope=0.1)({x})"]
                + [f"L.Activation({self.activation(channels)!r})({x})"] * 3
            )
        )

    def index(self, x: str) -> str:
        channels = self.shape(x)[-1]
        count = int(self.random.integers(1, 2 * channels + 1))
        kind = self.random.random()
        indices = self.random.integers(0, channels, count)
        if kind < 0.3:
            indices = self.random.permutation(channels)
        elif kind < 0.6:
            indices = self.random.permutation(channels)[: max(1, channels // 2)]
        return self.line(f"K.ChannelIndex({indices.tolist()})({x})")

    def shuffle(self, x: str) -> str:
        return self.line(f"K.ChannelShuffle({self.divisor(self.shape(x)[-1], 16)})({x})")

    def scatter(self, x: str) -> str:
        channels = int(self.random.integers(1, 16))
        indices = self.random.integers(0, channels, self.shape(x)[-1]).tolist()
        return self.line(f"K.ChannelScatterAdd({indices}, {channels})({x})")

    def pad(self, x: str) -> str:
        return self.line(f"L.ZeroPadding2D({self.choice([1, ((0, 1), (2, 0)), (1, 0)])})({x})")

    def pool(self, x: str) -> str:
        height, width, _ = self.shape(x)
        kind = self.choice(["AveragePooling2D"] * 3 + ["MaxPooling2D"])
        if min(height, width) < 2:
            return self.line(f"L.{kind}(1)({x})")
        size = self.choice(["2", "2", "2, padding='same'", "(2, 1)", "2, strides=1"])
        return self.line(f"L.{kind}({size})({x})")

    def identity(self, x: str) -> str:
        return self.line(f"{self.choice(['L.Dropout(0.5)', 'L.Identity()', 'L.GaussianNoise(1.0)'])}({x})")

    def pair(self, x: str) -> str:
        """Another tensor of the same shape, combined."""
        others = [name for name in self.tensors() if self.shape(name) == self.shape(x)]
        other = self.choice(others)
        kind = self.choice(["Add"] * 4 + ["Multiply", "Subtract", "Maximum", "Average", "+", "*"])
        if kind in "+*":
            return self.line(f"{x} {kind} {other}")
        third = f", {self.choice(others)}" if kind == "Add" and self.chance(0.2) else ""
        return self.line(f"L.{kind}()([{x}, {other}{third}])")

    def concatenate(self, x: str) -> str:
        others = [n for n in self.tensors() if self.shape(n)[:-1] == self.shape(x)[:-1]]
        chosen = [self.choice(others) for _ in range(int(self.random.integers(1, 4)))]
        if sum(self.shape(n)[-1] for n in chosen) > 64:
            chosen = chosen[:1]
        joined = [x, *chosen] if self.chance(0.5) else [*chosen, x]
        return self.line(f"L.Concatenate()([{', '.join(joined)}])")

    def shared(self, x: str) -> str:
        """One layer that is called twice."""
        channels = self.shape(x)[-1]
        groups = self.divisor(channels)
        layer = self.line(
            self.choice(
                [
                    f"K.GroupConv2D({channels}, 1, groups={groups})",
                    f"K.LearnedGroupConv2D({channels}, 1, groups={groups}, condense_factor={self.divisor(channels)})",
                    "K.BatchNormalization()",
                    "L.ReLU()",
                ]
            ),
            f"layer{len(self.lines)}",
        )
        y = self.line(f"{layer}({x})")
        y = self.activate(y) if self.chance(0.5) else y
        return self.line(f"{layer}({y})")

    def nested(self, x: str) -> str:
        """A model inside the model, which is called once or twice."""
        channels = self.shape(x)[-1]
        outside = self.tensors()
        y = inner = self.line(f"keras.Input({self.shape(x)})", f"x{len(self.lines)}inner")
        for _ in range(int(self.random.integers(1, 4))):
            y = getattr(self, self.choice(["learned", "grouped", "norm", "activate", "index", "shuffle"]))(y)
        if self.shape(y) != self.shape(x) and self.shape(y)[:2] == self.shape(x)[:2] and self.chance(0.5):
            y = self.line(f"K.GroupConv2D({channels}, 1)({y})")
        model = self.line(f"keras.Model({inner}, {y})", f"model{len(self.lines)}")
        self.hide(outside)
        z = self.line(f"{model}({x})")
        return self.line(f"{model}({z})") if self.shape(z) == self.shape(x) and self.chance(0.5) else z

    # --- layers of vectors ---
    def vector_step(self, x: str) -> str:
        units = int(self.random.integers(1, 9))
        channels = self.shape(x)[-1]
        return self.choice(
            [
                lambda: self.line(f"L.Dense({units}{self.maybe_activation(units)})({x})"),
                lambda: self.line(
                    f"K.CondenseDense({units}, condense_factor={self.divisor(channels)}"
                    f"{self.maybe_activation(units)})({x})"
                ),
                lambda: self.norm(x),
                lambda: self.activate(x),
                lambda: self.index(x),
                lambda: self.shuffle(x),
                lambda: self.pair(x),
                lambda: self.concatenate(x),
            ]
        )()

    # --- the whole ---
    def tensors(self) -> list[str]:
        """Names of tensors that may be read where the program now writes."""
        return [n for n in self.names if re.fullmatch(r"x\d+(inner)?|image\d", n) and n not in self.unreachable]

    def hide(self, visible: list[str]) -> None:
        """What was written inside a nested model can't be read outside."""
        self.unreachable |= set(self.tensors()) - set(visible)

    def program(self) -> Program:
        self.unreachable: set[str] = set()
        random = self.random
        with_stem = self.chance(0.4)
        sizes = [self.choice([1, 2, 3, 4, 5, 7, 8, 8, 12, 16]) for _ in range(2)]
        if with_stem:
            size = self.choice([8, 12, 16, 18])
            image = self.line(f"keras.Input(({size}, {size}, 3), name='image0')", "image0")
            x = self.rescaled(image) if self.chance(0.3) else image
            padded = self.chance(0.5)
            x = self.line(f"L.ZeroPadding2D(1)({x})") if padded else x
            padding = "" if padded else ", padding='same'"
            kind, filters = self.choice(["K.GroupConv2D", "L.Conv2D"]), self.choice([4, 8, 12])
            x = self.line(f"{kind}({filters}, 3, strides=2{padding})({x})")
        else:
            for number in range(self.choice([1, 1, 1, 2, 3])):
                channels = self.choice([1, 2, 3, 4, 8, 8, 16, 24])
                height, width = sizes if self.chance(0.7) else (self.choice([1, 3, 8]), self.choice([1, 4, 5]))
                name = f"image{number}"
                x = self.line(f"keras.Input(({height}, {width}, {channels}), name={name!r})", name)
        steps = SPARSE_STEPS if with_stem and self.chance(0.7) else IMAGE_STEPS
        kinds, weights = zip(*steps.items(), strict=True)
        chances = np.array(weights) / sum(weights)
        for _ in range(int(random.integers(1, 9))):
            images = [n for n in self.tensors() if len(self.shape(n)) == 3 and not n.endswith("inner")]
            x = images[-1] if self.chance(0.85) else self.choice(images)
            getattr(self, str(random.choice(kinds, p=chances)))(x)
            if with_stem and self.chance(0.25):
                x = next(n for n in reversed(self.tensors()) if len(self.shape(n)) == 3)
                if min(self.shape(x)[:2]) >= 2:
                    self.line(f"L.AveragePooling2D(2)({x})")
        outputs = [self.tensors()[-1]]
        if self.chance(0.6):
            pooling = self.choice(["GlobalAveragePooling2D", "GlobalAveragePooling2D", "Flatten"])
            x = self.line(f"L.{pooling}()({outputs[0]})")
            if self.shape(x)[0] <= 512:
                for _ in range(int(random.integers(0, 4))):
                    self.vector_step(self.tensors()[-1])
            outputs = [self.tensors()[-1]]
        inputs = [n for n in self.names if re.fullmatch(r"image\d", n)]
        candidates_ = [n for n in self.tensors() if n not in inputs and not n.endswith("inner")]
        if self.chance(0.3):
            outputs += [self.choice(candidates_) for _ in range(int(random.integers(1, 3)))]
        outputs = list(dict.fromkeys(outputs))
        used = needed(tuple(self.lines), tuple(outputs))
        for name in inputs:  # an input that nothing reads is an output of its own
            if not any(line.startswith(f"{name} = ") for line in used):
                used = tuple(line for line in self.lines if line in used or line.startswith(f"{name} = "))
                outputs.append(self.line(f"L.ReLU()({name})"))
                used = (*used, self.lines[-1])
        if outputs == inputs or not set(outputs) - set(inputs):
            outputs = [self.line(f"L.ReLU()({outputs[0]})")]
            used = (*used, self.lines[-1])
        setting = random_setting(np.random.default_rng([self.seed, 1]))
        return Program(self.seed, tuple(used), tuple(outputs), setting)


def random_program(seed: int) -> Program:
    """The network of a seed."""
    return Generator(seed).program()
