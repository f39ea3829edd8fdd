"""Every key of a command with its rule, for the help text. No torch."""

from collections.abc import Mapping, Sequence

from xmnist.config.declarations import EXPLAINERS, METRICS, rules_of
from xmnist.config.kinds import MODELS, kinds_with
from xmnist.config.schema import COMMON, FEWER, PHASES, PLUGINS, STAGES, TRAINING, only


def describe(stage: str, chosen: Mapping[str, str], explainers: Mapping[str, str], metrics: Sequence[str]) -> str:
    """Return every key with its rule, a line each, for the help text.

    Args:
        chosen: the option taken in each group.
        explainers: the method of each explainer.
    """
    common = {key: COMMON[key] for key in FEWER.get(stage, COMMON)}
    lines = {f"only.{key}": rule.text for key, rule in only().items()} if stage == "report" else {}
    lines |= {
        key: rule.text
        for key, rule in (common | STAGES[stage][1] | ({} if stage == "report" else {"plugins": PLUGINS})).items()
    }
    for group, name in chosen.items():
        lines |= {f"{group}.{key}": rule.text for key, rule in rules_of(group)[name].items()}
    lines |= _described(chosen["model"], explainers) if "model" in chosen else {}
    lines |= {
        f"metrics.{name}.{key}": option.rule.text for name in metrics for key, option in METRICS[name].keys.items()
    }
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {text}" for key, text in lines.items())


def _described(model: str, explainers: Mapping[str, str]) -> dict[str, str]:
    """Return the rules of the keys of models and explainers."""
    lines = {"alpha": MODELS[model].alpha.text}
    lines |= {key: rule.text for key, rule in MODELS[model].weights.items()}
    for name, method in explainers.items():
        lines |= {f"explainers.{name}.{key}": option.rule.text for key, option in EXPLAINERS[method].keys.items()}
    lines |= {f"trainer.{key}": rule.text for key, rule in TRAINING.items()}
    lines["trainer.decoder.*"] = f"any key of trainer, for {kinds_with(lambda kind: kind.part == 'decoder')} only"
    lines["trainer.joint.*"] = "any key of trainer but lr, for the joint model only; of these some for each phase:"
    return lines | {f"trainer.joint.{key}": rule.text for key, rule in PHASES.items()}
