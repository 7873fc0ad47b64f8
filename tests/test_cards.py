"""What a classifier takes and gives, in its run's folder and in its files, and what is predicted by it."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_condense as kc
from keras_condense.saving import load_model, save_model

pytest.importorskip("tensorflow")

CARD = kc.Card(("cat", "dog", "änder"), (8, 6, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "pets", None, 20, 2, 5)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Softmax()(x), name="pets")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3)).astype("uint8")


def as_trained(pixels):
    """As Keras' own layer computes it from the mean and the variance of pixels."""
    mean, std = 255 * np.array(CARD.mean), 255 * np.array(CARD.std)
    return keras.ops.convert_to_numpy(keras.layers.Normalization(mean=mean, variance=std**2)(pixels.astype("float32")))


# --- cards ---------------------------------------------------------------------------------------------------------
def test_a_card_normalizes_as_keras_does(pixels):
    np.testing.assert_allclose(CARD.inputs(pixels), as_trained(pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, "`class_names`"),
        ({"class_names": "cats"}, "`class_names`"),
        ({"class_names": ("cat", " ")}, "`class_names`"),
        ({"image_shape": (8, 6)}, "`image_shape`"),
        ({"image_shape": (8, 6, 4)}, "`image_shape`"),
        ({"image_shape": (0, 6, 3)}, "`image_shape`"),
        ({"mean": (0.5,)}, "`mean`"),
        ({"std": (0.5, 0.5, 0.0)}, "`std`"),
    ],
)
def test_cards_that_can_not_be(changes, message):
    with pytest.raises(ValueError, match=message):
        kc.Card(**{"class_names": ("a",), "image_shape": (8, 6, 3), "mean": (0.5,) * 3, "std": (1.0,) * 3} | changes)


def test_a_data_set_knows_where_it_lies(tmp_path):
    digits = kc.datasets.load_arrays("digits", image_size=8)
    assert kc.Card.of(digits).dataset == "digits"
    digits.save(tmp_path / "numbers.npz")
    card = kc.Card.of(kc.datasets.load(tmp_path / "numbers.npz", data_dir=tmp_path))
    assert (card.dataset, card.data_dir) == (str(tmp_path / "numbers.npz"), str(tmp_path))
    assert (card.for_others().dataset, card.for_others().data_dir) == ("", None)
    assert kc.Card.of(digits).for_others().dataset == "digits"


def test_a_card_goes_with_a_model(model, tmp_path):
    save_model(model, tmp_path / "a.keras", CARD)
    assert kc.load_card(tmp_path / "a.keras") == CARD
    assert load_model(tmp_path / "a.keras").count_params() == model.count_params()
    save_model(model, tmp_path / "b.keras")
    assert kc.load_card(tmp_path / "b.keras") is None
    assert kc.load_card(tmp_path) is None
    (tmp_path / "card.json").write_text(CARD.to_json().replace('"pets"', '"pets", "later": [1]'))
    assert kc.load_card(tmp_path) == CARD


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"class_names": 3}', "[" * 100_000])
def test_broken_cards_are_named(model, tmp_path, text):
    save_model(model, tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras", "a") as archive:
        archive.writestr("card.json", text)
    with pytest.raises(ValueError, match=r"a\.keras.*card\.json must say what a network takes and gives"):
        kc.load_card(tmp_path / "a.keras")


def test_a_file_that_is_none_has_no_card(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"PK" * 20)
    assert kc.load_card(tmp_path / "a.keras") is None
    with pytest.raises(ValueError, match="must be an existing file"):
        kc.load_card(tmp_path / "b.keras")


# --- in .tflite files ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_pixels_are_normalized_inside(model, pixels, quantize, tmp_path):
    data = as_trained(pixels) if quantize == "int8" else None
    path = tmp_path / "a.tflite"
    content = kc.export_tflite(
        model, path, quantize=quantize, card=CARD, preprocessing="inside", representative_data=data
    )
    scores = model.predict(as_trained(pixels), verbose=0)
    np.testing.assert_allclose(kc.run_tflite(content, pixels), scores, atol=0.02 if quantize == "int8" else 2e-3)
    card = kc.load_card(path)
    assert card.takes_pixels
    assert card.inputs(pixels) is pixels


def test_a_file_carries_labels_and_normalization(model, pixels, tmp_path):
    path = tmp_path / "a.tflite"
    content = kc.export_tflite(model, path, card=CARD)
    assert content == kc.export_tflite(model, card=CARD)
    with zipfile.ZipFile(path) as archive:  # as Android's libraries open it
        assert archive.read("labels.txt").decode().splitlines() == list(CARD.class_names)
    assert kc.load_card(path) == CARD.for_others()
    np.testing.assert_array_equal(
        kc.run_tflite(content, as_trained(pixels)), kc.run_tflite(kc.export_tflite(model), as_trained(pixels))
    )


def metadata_of(content):
    """The metadata as flatbuffers' own accessors read them, field by field of the published schema."""
    from flatbuffers import encode, number_types
    from flatbuffers.table import Table
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    (entry,) = [
        model.Metadata(n) for n in range(model.MetadataLength()) if model.Metadata(n).Name() == b"TFLITE_METADATA"
    ]
    data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"

    def field(table, number):
        return table.Offset(4 + 2 * number)

    def below(table, number):
        return Table(table.Bytes, table.Indirect(table.Pos + field(table, number)))

    def first(table, number):
        return Table(table.Bytes, table.Indirect(table.Vector(field(table, number))))

    def floats(table, number):
        start, length = table.Vector(field(table, number)), table.VectorLen(field(table, number))
        return [encode.Get(number_types.Float32Flags.packer_type, table.Bytes, start + 4 * n) for n in range(length)]

    whole = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    subgraph = first(whole, 3)
    normalization = below(first(first(subgraph, 2), 4), 1)
    labels = first(first(subgraph, 3), 6)
    return {
        "name": whole.String(whole.Pos + field(whole, 0)),
        "mean": floats(normalization, 0),
        "std": floats(normalization, 1),
        "labels": labels.String(labels.Pos + field(labels, 0)),
    }


@pytest.mark.parametrize("inside", [False, True])
def test_metadata_are_those_of_the_published_schema(model, inside):
    content = kc.export_tflite(model, card=CARD, preprocessing="inside" if inside else "outside")
    found = metadata_of(content)
    assert (found["name"], found["labels"]) == (b"pets", b"labels.txt")
    expected = ([0.0], [1.0]) if inside else (255 * np.array(CARD.mean), 255 * np.array(CARD.std))
    np.testing.assert_allclose(found["mean"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found["std"], expected[1], rtol=1e-6)


def test_weights_stay_aligned(model):
    """Kernels outside XNNPACK read them where they lie."""
    from tensorflow.lite.python import schema_py_generated as schema

    content = kc.export_tflite(model, card=CARD)
    file = schema.Model.GetRootAs(content)
    for number in range(file.BuffersLength()):
        buffer = file.Buffers(number)
        if buffer.DataLength():
            assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0


def test_cards_that_do_not_fit(model, tmp_path):
    path = tmp_path / "a.tflite"
    other = kc.Card(("cat", "dog"), (8, 6, 3), (0.5,) * 3, (1.0,) * 3)
    with pytest.raises(ValueError, match=r"`card` must be that of `model` \(='pets'\), and says .* to 2 scores"):
        kc.export_tflite(model, path, card=other)
    with pytest.raises(ValueError, match="`card` must be given with preprocessing='inside'"):
        kc.export_tflite(model, path, preprocessing="inside")
    with pytest.raises(ValueError, match="must be a Card"):
        kc.export_tflite(model, path, card={"class_names": 3})
    with pytest.raises(ValueError, match="`preprocessing` "):
        kc.export_tflite(model, path, card=CARD, preprocessing="in")
    assert not path.exists()


def test_pixels_are_no_inputs_of_a_float_file(model, pixels):
    with pytest.raises(ValueError, match=r"are pixels of uint8, and the model takes float32.*preprocessing='inside'"):
        kc.run_tflite(kc.export_tflite(model, card=CARD), pixels)


# --- predictions ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["model", "keras", "tflite", "inside"])
def test_predictions_of_pixels(model, pixels, kind, tmp_path):
    path = tmp_path / ("a.keras" if kind == "keras" else "a.tflite")
    if kind == "keras":
        save_model(model, path, CARD)
    elif kind != "model":
        kc.export_tflite(model, path, card=CARD, preprocessing="inside" if kind == "inside" else "outside")
    given = {"card": CARD} if kind == "model" else {}
    predictions = kc.predict(model if kind == "model" else path, list(pixels), top=2, **given)
    scores = model.predict(as_trained(pixels), verbose=0)
    for prediction, row in zip(predictions, scores, strict=True):
        best = np.argsort(-row)[:2]
        assert prediction.labels == tuple(CARD.class_names[number] for number in best)
        np.testing.assert_allclose(prediction.probabilities, row[best], atol=1e-5)


def test_predictions_of_files(model, pixels, tmp_path):
    for number, image in enumerate(pixels[:2]):
        keras.utils.save_img(tmp_path / f"{number}.png", image, scale=False)
    (tmp_path / "notes.txt").write_text("no image")
    files = [str(tmp_path / f"{number}.png") for number in range(2)]
    predictions = kc.predict(model, [tmp_path, files[0]], card=CARD)
    assert [prediction.name for prediction in predictions] == [*files, files[0]]
    assert [p.labels for p in predictions[:2]] == [p.labels for p in kc.predict(model, list(pixels[:2]), card=CARD)]
    assert str(predictions[0]).startswith(f"{files[0]}: ")


def test_other_sizes_and_colours_are_made_to_fit(model, pixels):
    """As the data sets do it: bilinear, antialiased, gray repeated."""
    import tensorflow as tf

    large = np.repeat(np.repeat(pixels[0, ..., :1], 3, axis=0), 2, axis=1)
    fitted = np.rint(tf.image.resize(np.repeat(large, 3, axis=-1), (8, 6), antialias=True)).astype("uint8")
    assert kc.predict(model, large[..., 0], card=CARD) == kc.predict(model, fitted, card=CARD)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are none"),
        ("no/such.jpg", "must be an image file or a folder"),
        (np.zeros((4, 4, 3)), "float64 of"),
        (np.zeros((2, 4, 4, 3), "uint8"), "uint8 of"),
        ({"a": 1}, "must be files, or arrays of uint8"),
    ],
)
def test_what_is_no_image(model, images, message):
    with pytest.raises(ValueError, match=message):
        kc.predict(model, images, card=CARD)


def test_what_is_no_classifier(model, pixels, tmp_path):
    save_model(model, tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"`card` must be given for '.*a\.keras'"):
        kc.predict(tmp_path / "a.keras", pixels[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds none"):
        kc.predict(model, tmp_path / "empty", card=CARD)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png"):
        kc.predict(model, tmp_path / "broken.png", card=CARD)
    logits = keras.Model(model.input, 9 * model.layers[-2].output)
    with pytest.raises(ValueError, match="must give probabilities"):
        kc.predict(logits, pixels[0], card=CARD)
    card = json.loads(CARD.to_json()) | {"class_names": ["a"]}
    with pytest.raises(ValueError, match="names 1 classes"):
        kc.predict(model, pixels[0], card=kc.Card(**card))


def test_the_middle_is_cut_where_the_run_did(model):
    """As Keras cuts it; what is left has the right size already."""
    from keras.preprocessing.image import smart_resize

    card = kc.Card(CARD.class_names, CARD.image_shape, CARD.mean, CARD.std, resize="crop")
    random = np.random.default_rng(1)
    for size in ((8, 15), (21, 6), (8, 6)):
        image = random.integers(0, 256, (*size, 3)).astype("uint8")
        middle = smart_resize(image, (8, 6)).astype("uint8")
        assert kc.predict(model, image, card=card) == kc.predict(model, middle, card=card)
    wide = random.integers(0, 256, (8, 15, 3)).astype("uint8")
    assert kc.predict(model, wide, card=card) != kc.predict(model, wide, card=CARD)


def test_data_sets_cut_as_predictions_do(tmp_path, pixels):
    from keras_condense.datasets.pixels import fit_pixels

    wide = np.random.default_rng(2).integers(0, 256, (6, 10, 30, 3)).astype("uint8")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, image in enumerate(wide[:3] if name == "a" else wide[3:]):
            keras.utils.save_img(tmp_path / name / f"{number}.png", image, scale=False)
    cut = wide[:, :, 10:20]
    options = {"image_size": 10, "resize": "crop", "augment": False, "batch_size": 1, "test_fraction": 0.4}
    arrays = kc.datasets.load_arrays(tmp_path, **options)
    found = {image.tobytes() for image in [*arrays.train_images, *arrays.test_images]}
    assert found == {image.tobytes() for image in cut}
    assert kc.Card.of(arrays).resize == kc.Card.of(kc.datasets.load(tmp_path, **options)).resize == "crop"
    assert fit_pixels(wide, (10, 10, 3), "crop").tobytes() == cut.tobytes()
    with pytest.raises(ValueError, match="`resize`"):
        kc.datasets.load(tmp_path, resize="pad")
