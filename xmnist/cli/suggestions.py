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
    known = {key: key for key in (*COMMON, *loss_weights(), "explainer", "metric", *COMPONENTS)}
    for where, rules in (
        ("trainer", TRAINING),
        *((group, options) for group in COMPONENTS for options in rules_of(group).values()),
    ):
        known = {key: f"{where}.{key}" for key in rules} | known
    for where, declared in (("metrics", METRICS.values()), ("explainers", EXPLAINERS.values())):
        known = {key: f"{where}.{component.name}.{key}" for component in declared for key in component.keys} | known
    near = nearest(word, known)
    return ALIASES.get(word) or known.get(word) or (known[near] if near else None)
