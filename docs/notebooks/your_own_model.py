# %% [markdown]
# # A Keras model of your own, with a quarter of its connections
#
# A small network for handwritten digits is trained as usual. Then its 1x1 convolutions learn which inputs each group of
# filters needs, and the result is exported for phones. Takes about half a minute.

# %%
import keras

import keras_condense as kc

keras.utils.set_random_seed(0)
data = kc.datasets.load("digits")

# %% [markdown]
# Any functional or sequential model will do. This one is made of depthwise and 1x1 convolutions, as MobileNet is.

# %%
layers = [keras.Input(data.image_shape), keras.layers.Conv2D(32, 3, strides=2, activation="relu")]
for filters in (64, 128):
    for convolution in (keras.layers.Conv2D(filters, 1), keras.layers.DepthwiseConv2D(3, padding="same")):
        layers += [convolution, keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(data.train, epochs=6, shuffle=False, verbose=2)  # `data` shuffles

# %% [markdown]
# `learn_groups` gives a new model with the same weights and outputs. Training it on, with `CondenseSchedule`, drops
# three quarters of the connections of its learned layers in the first half of the epochs.

# %%
print(kc.explain_learn_groups(model))
learning = kc.learn_groups(model, groups=4, condense_factor=4)
learning.fit(data.train, epochs=8, shuffle=False, verbose=2, callbacks=[kc.callbacks.CondenseSchedule()])

# %% [markdown]
# `condense` makes what was learned small: an index and a group convolution in the place of each masked layer.

# %%
small = kc.condense(learning)
for name, network in (("before", model), ("after", small)):
    accuracy = network.evaluate(data.test, verbose=0, return_dict=True)["accuracy"]
    profile = kc.profile_model(network)
    print(f"{name}: accuracy {accuracy:.3f}, {profile.parameters:,} parameters, {profile.macs:,} multiply-adds")

# %% [markdown]
# The exporter lowers it to what a phone executes fastest, compares the file with the model, and says what it chose.

# %%
content = kc.export_tflite(small, "mine.tflite", card=kc.Card.of(data), report=True)
print(f"{len(content):,} bytes")
print(kc.benchmark_tflite("mine.tflite"))
