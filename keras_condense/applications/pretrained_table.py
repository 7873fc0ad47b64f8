"""The table of trained networks, row by row: which weights there are, where they lie, and what they reach.

A new row in `WEIGHTS` is all that new weights need: the constructors, their errors and their downloads follow from it.
Two publishers stand behind it, and this package:

- pytorchcv (github.com/osmr/imgclsmob, MIT licence): zipped files of PyTorch, checked by their SHA-1 and converted
  (`torch_files`, `torch_conversion`, `downloads`). CondenseNet's are the authors' own training, the others pytorchcv's.
- keras.applications, for the networks that it has: files of Keras, checked by their MD5; MobileNet's have none.
- keras_condense: networks trained with it, whose weights come with the package (`weights/`, each with a card).

None of pytorchcv's addresses could be tried where this table was written. It equals the list of files in pytorchcv
0.0.74, which a test compares; top-1 errors on ImageNet are those of that project's README.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from keras_condense.applications.preprocessing import CIFAR, CIFAR10, IMAGENET, KERAS_DENSENET, KERAS_MOBILENET
from keras_condense.applications.pretrained_rows import KERAS_FOLDER, KerasFiles, PretrainedWeights

__all__ = ["WEIGHTS"]


def _released(
    constructor: str,
    arguments: Mapping[str, Any],
    dataset: str,
    model: str,
    digits: str,
    sha1: str,
    tag: str,
    error: float | None = None,
) -> PretrainedWeights:
    """A row for a file of pytorchcv; `digits`, of the file's name, are per mille of tenths: top-5 on ImageNet."""
    imagenet = dataset == "imagenet"
    return PretrainedWeights(
        constructor=constructor,
        arguments=arguments,
        dataset=dataset,
        license="MIT",
        preprocessing=IMAGENET if imagenet else CIFAR,
        release=f"{tag}/{model}-{digits}-{sha1[:8]}.pth.zip",
        sha1=sha1,
        published_error=error if imagenet else int(digits) / 100,
        published_top5_error=int(digits) / 100 if imagenet else None,
    )


def _shufflenet(groups: int, width: float, **stem: int) -> tuple[str, dict[str, Any]]:
    return "ShuffleNet", {"groups": groups, "width": width} | stem


# constructor and arguments, pytorchcv's name, the digits of the file's name (top-5 error), SHA-1, tag, top-1 error
_IMAGENET = (
    (("CondenseNetImageNet74G4", {}), "condensenet74_c4_g4", "0828",
     "5ba550494cae7081d12c14b02b2a02365539d377", "v0.0.4", 26.25),
    (("CondenseNetImageNet74G8", {}), "condensenet74_c8_g8", "1006",
     "3574d874fefc3307f241690bad51f20e61be1542", "v0.0.4", 28.93),
    (("DenseNet", {"stages": (6, 12, 36, 24), "growth_rate": 48}), "densenet161", "0606",
     "da489277afe7f53048ec15bed7919486e22f1afa", "v0.0.432", 21.91),
    (("ResNeXt50", {}), "resnext50_32x4d", "0560",
     "d7976503d13734114364e0dfef1d22f6d76546d9", "v0.0.498", 21.08),
    (("ResNeXt101", {}), "resnext101_32x4d", "0434",
     "5ac165981bac62627719b3362b31b456cba05df4", "v0.0.530", 18.78),
    (("ResNeXt", {"stages": (3, 4, 6, 3), "cardinality": 1, "bottleneck_width": 64}), "resnet50b", "0638",
     "8a5473ef985d65076a3758117ad5700d726bd952", "v0.0.308", 22.39),
    (("SqueezeNet", {"version": "1.0"}), "squeezenet_v1_0", "1766",
     "afdbcf1aef39237300656d2c5a7dba19230e29fc", "v0.0.128", 39.29),
    (("SqueezeNet", {"version": "1.1"}), "squeezenet_v1_1", "1772",
     "25b77bc39e35612abbe7c2344d2c3e1e6756c2f8", "v0.0.88", 39.31),
    (("SqueezeNet", {"bypass": "simple"}), "squeezeresnet_v1_0", "1809",
     "25bfc02edeffb279010242614e7d73bbeacc0170", "v0.0.178", 39.77),
    # a quarter of the paper's 24 stem filters, where the authors' program has 12
    (_shufflenet(1, 0.25, stem_filters=6), "shufflenet_g1_wd4", "3729",
     "47dbd0f279da6d3056079bb79ad39cabbb3b9415", "v0.0.134", 62.44),
    (_shufflenet(3, 0.25, stem_filters=6), "shufflenet_g3_wd4", "3653",
     "6abdd65e087e71f80345415cdf7ada6ed2762d60", "v0.0.135", 61.74),
    (_shufflenet(1, 0.5), "shufflenet_g1_wd2", "2261",
     "dae4bdadd7d48bee791dff2a08cd697cff0e9320", "v0.0.174", 46.59),
    (_shufflenet(3, 0.5), "shufflenet_g3_wd2", "2080",
     "ccaacfc8d9ac112c6143269df6e258fd55b662a7", "v0.0.167", 44.16),
    (_shufflenet(1, 0.75), "shufflenet_g1_w3d4", "1711",
     "161cd24aa0b2e2afadafa69b44a28af222f2ec7a", "v0.0.218", 39.58),
    (_shufflenet(3, 0.75), "shufflenet_g3_w3d4", "1650",
     "3f3b0aef0ce3174c78ff42cf6910c6e34540fc41", "v0.0.219", 38.20),
    (_shufflenet(1, 1.0), "shufflenet_g1_w1", "1389",
     "4cfb65a30761fe548e0b5afbb5d89793ec41e4e9", "v0.0.223", 34.93),
    (_shufflenet(2, 1.0), "shufflenet_g2_w1", "1363",
     "07256203e217a7b31f1c69a5bd38a6674bce75bc", "v0.0.241", 34.25),
    (_shufflenet(3, 1.0), "shufflenet_g3_w1", "1348",
     "ce54f64ecff87556a4303380f46abaaf649eb308", "v0.0.244", 34.39),
    (_shufflenet(4, 1.0), "shufflenet_g4_w1", "1335",
     "e2415f8270a4b6cbfe7dc97044d497edbc898577", "v0.0.245", 34.19),
    (_shufflenet(8, 1.0), "shufflenet_g8_w1", "1342",
     "9a979b365424addba75c559a61a77ac7154b26eb", "v0.0.250", 34.06),
)  # fmt: skip


def _cifar_densenet(layers: int, growth_rate: int, bottleneck: bool) -> tuple[str, dict[str, Any]]:
    """A network without bottleneck has a stem of 2k and transitions that halve, here and not in the paper."""
    arguments = {"stages": (layers,) * 3, "growth_rate": growth_rate, "stem": "cifar"}
    return "DenseNet", arguments if bottleneck else arguments | {"bottleneck": False, "stem_filters": 2 * growth_rate}


# constructor and arguments, pytorchcv's name without the data set, and of each data set the digits (error), SHA-1, tag
_SMALL_IMAGES = (
    (_cifar_densenet(12, 12, False), "densenet40_k12", {
        "cifar10": ("0561", "8b8e819467a2e4c450e4ff72ced80582d0628b68", "v0.0.193"),
        "cifar100": ("2490", "d182c224d6df2e289eef944d54fea9fd04890961", "v0.0.195"),
        "svhn": ("0305", "ac0de84a1a905b768c66f0360f1fb9bd918833bf", "v0.0.278"),
    }),
    (_cifar_densenet(6, 12, True), "densenet40_k12_bc", {
        "cifar10": ("0643", "6dc86a2ea1d088f088462f5cbac06cc0f37348c0", "v0.0.231"),
        "cifar100": ("2841", "1e9db7651a21e807c363c9f366bd9e91ce2f296f", "v0.0.232"),
        "svhn": ("0320", "320760528b009864c68ff6c5b874e9f351ea7a07", "v0.0.279"),
    }),
    (_cifar_densenet(6, 24, True), "densenet40_k24_bc", {
        "cifar10": ("0452", "669c525548a4a2392c5e3c380936ad019f2be7f9", "v0.0.220"),
        "cifar100": ("2267", "411719c0177abf58eddaddd05511c86db0c9d548", "v0.0.221"),
        "svhn": ("0290", "f4440d3b8c974c9e1014969f4d5832c6c90195d5", "v0.0.280"),
    }),
    (_cifar_densenet(6, 36, True), "densenet40_k36_bc", {
        "cifar10": ("0404", "b1a4cc7e67db1ed8c5583a59dc178cc7dc2c572e", "v0.0.224"),
        "cifar100": ("2050", "cde836fafec1e5d6c8ed69fd3cfe322e8e71ef1d", "v0.0.225"),
        "svhn": ("0260", "8c7db0a291a0797a8bc3c709bff7917bc41471cc", "v0.0.311"),
    }),
    (_cifar_densenet(32, 12, False), "densenet100_k12", {
        "cifar10": ("0366", "26089c6e70236e8f25359de6fda67b84425888ab", "v0.0.205"),
        "cifar100": ("1964", "5e10cd830c06f6ab178e9dd876c83c754ca63f00", "v0.0.206"),
        "svhn": ("0260", "57fde50e9f44edc0486b62a1144565bc77d5bdfe", "v0.0.311"),
    }),
    (_cifar_densenet(32, 24, False), "densenet100_k24", {
        "cifar10": ("0313", "397f0e39b517c05330221d4f3a9755eb5e561be1", "v0.0.252"),
        "cifar100": ("1808", "1c0a8067283952709d8e09c774c3a404f51e0079", "v0.0.318"),
    }),
    (("DenseNetBC100K12", {}), "densenet100_k12_bc", {
        "cifar10": ("0416", "b9232829b13c3f3f2ea15f4be97f500b7912c3c2", "v0.0.189"),
        "cifar100": ("2119", "05a6f02772afda51a612f5b92aadf19ffb60eb72", "v0.0.208"),
    }),
    (("DenseNetBC190K40", {}), "densenet190_k40_bc", {
        "cifar10": ("0252", "2896fa088aeaef36fcf395d404d97ff172d78943", "v0.0.286"),
    }),
    (("DenseNetBC250K24", {}), "densenet250_k24_bc", {
        "cifar10": ("0267", "f8f9d3052bae1fea7e33bb1ce143c38b4aa5622b", "v0.0.290"),
        "cifar100": ("1739", "09ac3e7d9fbe6b97b170bd838dac20ec144b4e49", "v0.0.303"),
    }),
)  # fmt: skip

# constructor, MD5 sums with and without the classifier, errors (top-1 and top-5)
_KERAS_DENSENETS = (
    ("DenseNet121", "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738", (25.0, 7.7)),
    ("DenseNet169", "d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b", (23.8, 6.8)),
    ("DenseNet201", "1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1", (22.7, 6.4)),
)
# constructor, folder, file, the file's word for each alpha, sizes of the images (those for any other size first; of the
# alphas above 1 the first alone), and errors at alpha 1 and 224 pixels, the only ones that Keras gives
_KERAS_MOBILENETS = (
    (
        "MobileNet",
        "mobilenet",
        "mobilenet_{alpha}_{size}_tf",
        {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"},
        (224, 192, 160, 128),
        (29.6, 10.5),
    ),
    (
        "MobileNetV2",
        "mobilenet_v2",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}",
        {alpha: alpha for alpha in (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)},
        (224, 192, 160, 128, 96),
        (28.7, 9.9),
    ),
)


def _keras_densenets() -> Iterator[PretrainedWeights]:
    for constructor, top, no_top, (error, top5_error) in _KERAS_DENSENETS:
        file = f"{constructor.lower()}_weights_tf_dim_ordering_tf_kernels"
        yield PretrainedWeights(
            constructor=constructor,
            dataset="imagenet",
            license="BSD-3-Clause",
            preprocessing=KERAS_DENSENET,
            published_error=error,
            published_top5_error=top5_error,
            keras_files=KerasFiles(f"{KERAS_FOLDER}/densenet", (f"{file}.h5", top), (f"{file}_notop.h5", no_top)),
        )


def _keras_mobilenets() -> Iterator[PretrainedWeights]:
    for constructor, folder, pattern, words, sizes, errors in _KERAS_MOBILENETS:
        for alpha, word in words.items():
            for size in sizes if alpha <= 1 else sizes[:1]:
                file = pattern.format(alpha=word, size=size)
                error, top5_error = errors if (alpha, size) == (1.0, 224) else (None, None)
                yield PretrainedWeights(
                    constructor=constructor,
                    arguments={"alpha": alpha},
                    dataset="imagenet",
                    license="Apache-2.0",
                    preprocessing=dataclasses.replace(KERAS_MOBILENET, size=size),
                    published_error=error,
                    published_top5_error=top5_error,
                    keras_files=KerasFiles(
                        f"{KERAS_FOLDER}/{folder}", (f"{file}.h5", None), (f"{file}_no_top.h5", None)
                    ),
                )


# constructor, data set, SHA-256 of the file, and its error; `benchmarks/package_weights.py` prints the sum
_TRAINED_HERE = (
    ("CondenseNet50", "cifar10", "145192e8ab7d59ff9df2e65d396b0d273cb50b3bc9ffdd7d273ab22443509f20", 6.99),
)  # fmt: skip


def _packaged(constructor: str, dataset: str, sha256: str, error: float) -> PretrainedWeights:
    return PretrainedWeights(
        constructor=constructor,
        dataset=dataset,
        license="Apache-2.0",
        preprocessing=CIFAR10,
        packaged=f"{constructor.lower()}-{dataset}.weights.h5",
        sha256=sha256,
        measured_error=error,
    )


WEIGHTS: tuple[PretrainedWeights, ...] = (
    *(_packaged(*row) for row in _TRAINED_HERE),
    *(_released(*network, "imagenet", model, *file) for network, model, *file in _IMAGENET),
    *(
        _released(*network, dataset, f"{model}_{dataset}", *file)
        for network, model, files in _SMALL_IMAGES
        for dataset, file in files.items()
    ),
    *_keras_densenets(),
    *_keras_mobilenets(),
)
