# %% [markdown]
# # Reading a run's pictures
#
# What happens to loss and accuracy when connections are dropped, which layers read which, what each layer costs, and
# how two files compare. Takes about a minute.

# %%
import pathlib

import keras

import keras_condense as kc

run = pathlib.Path("runs/pictured")
data = kc.datasets.load("digits")
keras.utils.set_random_seed(0)
model = kc.applications.CondenseNet((3, 3), (8, 16), stem_strides=1, input_shape=data.image_shape, classes=10)
model = kc.training.train(model, data, run, epochs=8, resume=True, verbose=2)
small = kc.condense(model)

# %% [markdown]
# Dotted lines are drops: with condense factor 4, three of them in the first half. The loss rises there and recovers.

# %%
kc.pictures.save(kc.pictures.run(run), "run.png")

# %% [markdown]
# How much weight each learned layer gives to each earlier one, as DenseNet's figure 5 has it. What is white was dropped
# by all groups.

# %%
kc.pictures.save(kc.pictures.connections(model, small), "connections.png")

# %% [markdown]
# Multiply-adds of each layer, and what the table of costs for ARM phones says of it: groups of few filters cost more
# than their multiply-adds promise.

# %%
kc.pictures.save(kc.pictures.cost(small, target="arm64"), "cost.png")

# %% [markdown]
# The same network in float32 and in int8: bytes, milliseconds on this machine, and what XNNPACK did not take.

# %%
kc.export_tflite(small, "float32.tflite")
kc.export_tflite(small, "int8.tflite", quantize="int8", representative_data=data.representative_data(64))
kc.pictures.save(kc.pictures.exports("float32.tflite", "int8.tflite"), "exports.png")
