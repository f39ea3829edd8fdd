"""Keys that somebody meant who typed something else. No torch."""

from xmnist.config.declarations import EXPLAINERS
from xmnist.config.schema import COMMON, METRICS, TRAINING, WEIGHTS, group_options
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
"""What other tools call keys."""


def meant(word: str) -> str | None:
    """The dotted key of which somebody typed a part, or what another tool calls it; None if nobody knows."""
    word = word.lower().replace("-", "_")
    groups = group_options()
    known = {key: key for key in (*COMMON, *WEIGHTS, "explainer", "metric", *groups)}
    for where, rules in (
        ("trainer", TRAINING),
        *((group, options) for group in groups for options in groups[group].values()),
    ):
        known = {key: f"{where}.{key}" for key in rules} | known
    for where, tables in (("metrics", METRICS), ("explainers", {each.name: each.keys for each in EXPLAINERS.values()})):
        known = {key: f"{where}.{name}.{key}" for name, rules in tables.items() for key in rules} | known
    near = nearest(word, known)
    return ALIASES.get(word) or known.get(word) or (known[near] if near else None)
