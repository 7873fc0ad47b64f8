"""What `ablation.py` compares: its arms, and the settings that they share."""

import dataclasses

from keras_condense.drop_plans import drop_plan

GROWTH_RATES = (8, 16, 32)
GROUPS = CONDENSE_FACTOR = 4
PAPERS_DROPS = drop_plan(CONDENSE_FACTOR).drops_at
TRAINING_IMAGES = {"cifar10": 50_000, "digits": 1_437}  # as many as each data set has
WINDOWS = 6  # losses kept of an epoch
PACKAGES = ("keras-condense", "keras", "tensorflow")
CONDITIONS = ("threads", "device", "versions", "python", "date")


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained: a row of differences to the paper's way.

    Attributes:
        chosen: which inputs each group is given before the first step; "" leaves it all of them.
        drops_at: the progress at which the least important connections are dropped; none if it is empty.
        group_lasso: weight of the group lasso.
        narrow: a dense network with lower growth rates, of as many multiply-adds as the condensed ones.
    """

    chosen: str = ""
    drops_at: tuple[float, ...] = PAPERS_DROPS
    group_lasso: float = 0.0
    narrow: bool = False


@dataclasses.dataclass(frozen=True)
class Arm:
    """A training, and what is done to the network after it and before the test.

    Attributes:
        training: arms of the same training share it.
        pruned: whether connections are dropped at the end, with no step after it.
        renewed: whether batch norms then gather their statistics anew; no weight changes.
    """

    training: Training
    pruned: bool = False
    renewed: bool = False

    @property
    def condensed(self) -> bool:
        """Whether the network ends with one connection in C."""
        return bool(self.pruned or self.training.drops_at or self.training.chosen)

    @property
    def small(self) -> bool:
        """Whether the network ends with the multiply-adds of a condensed one."""
        return self.condensed or self.training.narrow


# of arms that share a training, each goes on where the one above it ended
ARMS = {
    "learned": Arm(Training()),
    "learned with group lasso": Arm(Training(group_lasso=1e-5)),
    "fixed groups, interleaved": Arm(Training(chosen="interleaved", drops_at=())),
    "fixed groups, random": Arm(Training(chosen="random", drops_at=())),
    "one shot, then trained": Arm(Training(drops_at=(PAPERS_DROPS[-1],))),
    "dense, narrower": Arm(Training(drops_at=(), narrow=True)),
    "dense": Arm(Training(drops_at=())),
    "one shot": Arm(Training(drops_at=()), pruned=True),
    "one shot, statistics renewed": Arm(Training(drops_at=()), pruned=True, renewed=True),
}
# colours that the colour-blind can tell apart (Okabe and Ito), markers, and lines
STYLES = {
    "learned": ("#0072B2", "o", "-"),
    "learned with group lasso": ("#56B4E9", "s", "--"),
    "fixed groups, interleaved": ("#E69F00", "^", "-"),
    "fixed groups, random": ("#D55E00", "v", "-"),
    "one shot, then trained": ("#009E73", "D", "-"),
    "dense, narrower": ("#F0E442", "P", "-."),
    "dense": ("#777777", "*", ":"),
    "one shot": ("#CC79A7", "X", "-"),
    "one shot, statistics renewed": ("#000000", "p", "-"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a comparison have in common: columns of the results."""

    data: str
    train_images: int
    image_size: int
    recipe: str
    epochs: int
    batch_size: int

    def columns(self) -> dict:
        """The settings as a csv file holds them."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items()}

    def chosen(self, rows: list[dict]) -> list[dict]:
        """The rows of these settings."""
        return [row for row in rows if row.items() >= self.columns().items()]
