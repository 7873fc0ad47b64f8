# %% [markdown]
# # From a folder of pictures to a file for a phone
#
# A folder for each class is all that is needed. Here the folders are made of scikit-learn's handwritten digits, so that
# nothing is downloaded; put the path of your own photographs in their place. Takes about a minute.

# %%
import pathlib

import keras

import keras_condense as kc

folder, run = pathlib.Path("pictures"), pathlib.Path("runs/pictures")
digits = kc.datasets.load_arrays("digits")
for number, (pixels, label) in enumerate(zip(digits.train_images[:600], digits.train_labels[:600], strict=True)):
    (folder / f"digit {label}").mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(folder / f"digit {label}" / f"{number}.png", pixels, scale=False)

# %% [markdown]
# Images of other sizes would be resized: `resize="crop"` keeps the ratio of their sides and cuts out the middle.

# %%
data = kc.datasets.load(folder, image_size=16, resize="crop", channels=1, batch_size=32)
print(data.class_names, data.train_size, data.test_size)

# %% [markdown]
# `train` keeps a run in a folder that survives a kill: call it again with `resume=True` and it goes on.

# %%
keras.utils.set_random_seed(0)
model = kc.applications.CondenseNet(
    (2, 2, 2), (8, 16, 32), stem_strides=1, input_shape=data.image_shape, classes=len(data.class_names)
)
model = kc.training.train(model, data, run, recipe="short", epochs=20, resume=True, verbose=2)
print("accuracy", model.evaluate(data.test, verbose=0, return_dict=True)["accuracy"])

# %% [markdown]
# The card says what the network takes and gives. With `preprocessing="inside"` the file takes pixels as they are: an
# app has only to resize a picture.

# %%
card = kc.load_card(run)
small = kc.condense(model)
kc.saving.save_model(small, run / "condensed.keras", card)
kc.export_tflite(small, run / "pictures.tflite", card=card, preprocessing="inside")

# %%
for prediction in kc.predict(run / "pictures.tflite", sorted((folder / "digit 7").iterdir())[:3], top=3):
    print(prediction)
