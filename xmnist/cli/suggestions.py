"""Suggestions of the key that a user meant who typed something else. No torch."""

from xmnist.config.declarations import COMPONENTS, EXPLAINERS, METRICS, rules_of
from xmnist.config.kinds import loss_weights
from xmnist.config.schema import COMMON, TRAINING
from xmnist.runtime.errors import nearest

ALIASES = {
    **{"learning_rate": "trainer.lr", "batchsize": "trainer.batch_size", "batch": "trainer.batch_size"},
    **{
        "epoch": "trainer.epochs",
        "output": "out_dir",
        "output_dir": "out_dir",
        "outputs": "out_dir",
        "data": "dataset",
    },
    **{"gpu": "device", "network": "classifier", "method": "explainer", "explainers": "explainer", "metrics": "metric"},
}
"""Names that other tools use -> the keys of this package."""


def meant(word: str) -> str | None:
    """Return the dotted key for a part of it, or for another tool's name of it; None if there is none."""
    word = word.lower().replace("-", "_")
    known = {key: f"trainer.{key}" for key in TRAINING}
    known |= {key: key for key in (*COMMON, *loss_weights(), "explainer", "metric", *COMPONENTS)}
    if word in ALIASES or nearest(word, known):  # the options of components, which take time to import, are not asked
        return ALIASES.get(word) or known.get(word) or known[str(nearest(word, known))]
    for group in COMPONENTS:
        known = {key: f"{group}.{key}" for options in rules_of(group).values() for key in options} | known
    for where, components in (("metrics", METRICS.values()), ("explainers", EXPLAINERS.values())):
        known = {key: f"{where}.{each.name}.{key}" for each in components for key in each.keys} | known
    near = nearest(word, known)
    return known[near] if near else None
