"""What networks are built of: several layers that belong together, as random programs write them."""

__all__ = ["Blocks"]


class Blocks:
    """Blocks of layers of images; a `Generator` writes their lines."""

    def attention(self, x: str) -> str:
        """Squeeze and excitation."""
        channels = self.shape(x)[-1]
        y = self.line(f"L.GlobalAveragePooling2D(keepdims=True)({x})")
        gate = self.choice(["hard_sigmoid", "sigmoid"])
        y = self.line(f"L.Conv2D({channels}, 1, activation={gate!r})({y})")
        return self.line(f"L.Multiply()([{x}, {y}])")

    def rescaled(self, x: str) -> str:
        """Pixels made what a network was trained with."""
        channels = self.shape(x)[-1]
        x = self.line(f"L.Rescaling(1 / 2, offset=-0.5)({x})") if self.chance(0.7) else x
        mean, variance = [0.1 * n for n in range(channels)], [1.0 + n % 3 for n in range(channels)]
        return self.line(f"L.Normalization(mean={mean}, variance={variance})({x})") if self.chance(0.5) else x

    def separable(self, x: str) -> str:
        filters = self.filters(1)
        strides = f", strides={self.choice([1, 2])}"
        return self.line(f"L.SeparableConv2D({filters}, {self.choice([3, 5])}, padding='same'{strides})({x})")

    def inverted(self, x: str) -> str:
        """A block of MobileNetV2, V3 or EfficientNet, whose 1x1 convolutions learn groups or are mostly zeros."""
        before, channels = x, self.shape(x)[-1]
        groups, strides = self.choice([2, 4, 4, 8]), self.choice([1, 1, 2])
        activation = self.choice(["L.ReLU(6.0)", "L.ReLU(6.0)", "L.Activation('hard_silu')", "L.Activation('silu')"])
        x = self._activated(self._learned_pointwise(x, groups * self.choice([2, 3, 6]), groups), activation)
        kind = f"L.DepthwiseConv2D({self.choice([3, 3, 5])}, strides={strides}, padding='same', use_bias=False)"
        x = self._activated(self.line(f"{kind}({x})"), activation)
        x = self.attention(x) if self.chance(0.3) else x
        filters = channels if self.chance(0.7) else groups * self.choice([1, 2, 4])
        x = self._activated(self._learned_pointwise(x, filters, groups), "")
        return self.line(f"L.Add()([{before}, {x}])") if self.shape(x) == self.shape(before) else x

    def _learned_pointwise(self, x: str, filters: int, groups: int) -> str:
        channels = self.shape(x)[-1]
        groups = groups if filters % groups == 0 else 1
        factor = max(d for d in (1, 2, 4) if channels % d == 0)
        return self.line(f"K.LearnedGroupConv2D({filters}, 1, groups={groups}, condense_factor={factor})({x})")

    def _activated(self, x: str, activation: str) -> str:
        x = self.line(f"K.BatchNormalization()({x})")
        return self.line(f"{activation}({x})") if activation else x

    def dense_layer(self, x: str) -> str:
        """A layer of CondenseNet and its kind, with everything that follows it optional."""
        channels = self.shape(x)[-1]
        groups = self.choice([2, 4, 4, 8])
        y = x
        if self.chance(0.9):
            y = self.line(f"K.BatchNormalization()({y})")
            y = self.line(f"L.ReLU()({y})") if self.chance(0.9) else y
        factor = self.divisor(channels)
        growth = groups * self.choice([1, 1, 2, 3])
        y = self.line(f"K.LearnedGroupConv2D({growth * 2}, 1, groups={groups}, condense_factor={factor})({y})")
        y = self.line(f"K.BatchNormalization()({y})")
        activation = self.choice(["ReLU()", "ReLU()", "Activation('hard_silu')"])
        y = self.line(f"L.{activation}({y})")
        activation = ", activation='relu'" if self.chance(0.5) else ""
        y = self.line(f"K.GroupConv2D({growth}, 3, padding='same', groups={groups}{activation})({y})")
        if self.chance(0.25):  # CondenseNetV2 updates what it has
            factor = self.divisor(channels)
            z = self.line(f"K.SparseFeatureReactivation({channels}, groups={groups}, condense_factor={factor})({y})")
            x = self.line(f"L.Add()([{x}, {z}])")
        return self.line(f"L.Concatenate()([{x}, {y}])")

    def dense_block(self, x: str) -> str:
        """Dense layers one after the other, whose concatenations are one store."""
        for _ in range(int(self.random.integers(2, 4))):
            x = self.dense_layer(x)
        return x
