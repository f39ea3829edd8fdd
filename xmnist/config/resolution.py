"""Resolution of a composed config into checked, typed settings.

Everything here works without torch, so that a mistyped word is answered at once. `resolve` turns a composed Hydra
config into typed settings, which is all that the rest of the package ever sees.
"""

import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, overload

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from xmnist.config import components, sizing
from xmnist.config.components import Options, checked, listed
from xmnist.config.declarations import (
    CLASSIFIERS,
    COMPONENTS,
    DATASETS,
    EXPLAINERS,
    METRICS,
    MODELS,
    SELECTIONS,
    ClassifierDeclaration,
    controls,
    decoder_names,
    loss_weights,
    reference_of,
    rules_of,
)
from xmnist.config.derived import foreign, phases
from xmnist.config.rules import Rule
from xmnist.config.schema import (
    COMMON,
    FEWER,
    IMAGE_SUFFIXES,
    JOINT_TRAINING,
    OWN,
    OWN_IMAGE,
    PHASES,
    PLUGINS,
    STAGES,
    TRAINING,
    only,
)
from xmnist.config.settings import Settings, of_plain
from xmnist.runtime.errors import InputError, unknown
from xmnist.runtime.storage import digest


@overload
def resolve(cfg: DictConfig, stage: Literal["train"] = "train") -> Settings: ...


@overload
def resolve(cfg: DictConfig, stage: str) -> Any: ...


def resolve(cfg: DictConfig, stage: str = "train") -> Any:
    """Return the composed config as the settings of a stage, every key checked for its name, type and range.

    Raises:
        InputError: names the first key that is wrong and what it may hold.
    """
    top = _plain(cfg)
    components.converted("plugins", top.pop("plugins", None), PLUGINS)
    settings = of_plain(stage, _resolved(top, stage))
    if isinstance(settings, Settings):
        phases(settings)  # raises for phases in which nothing learns
    return settings


def _resolved(top: Options, stage: str) -> Options:
    """Return the checked values of a config."""
    groups, own = STAGES[stage]
    if stage in FEWER:
        rules = {key: COMMON[key] for key in FEWER[stage]} | own
        found = _check_all(top, groups, rules, ["only"] if stage == "report" else [])
        if stage == "report":  # which is of whatever there is, and so is never done
            found |= {"only": checked("", top["only"], only()), "force": True}
        return found
    top = {k: v for k, v in top.items() if k not in foreign(stage)}
    model = top.get("model")
    kind = MODELS.get(str(model.get("name"))) if isinstance(model, dict) else None
    weights = kind.weights if kind else {}
    for key in loss_weights():
        if key in top and key not in weights:
            here = f"; here it is model.{key}" if isinstance(top.get("model"), dict) and key in top["model"] else ""
            raise InputError(f"{key} belongs to model=joint{here}")
    for group in ("explainer", "metric"):
        if group in top:
            raise InputError(f"a file of group {group} must begin with the line # @package {group}s.NAME")
    rules = COMMON | own | weights
    more = (
        "alpha",
        "trainer",
        *(["image"] if stage == "explain" else []),
        *(key for key in ("explainers", "metrics") if key in OWN.get(stage, ())),
    )
    out = _check_all(top, groups, rules, more)
    kind = MODELS[out["model"]["name"]]
    out["alpha"] = components.converted("alpha", top["alpha"], kind.alpha, f" with model={kind.name}")
    given = dict(top["trainer"]) if isinstance(top["trainer"], dict) else {"name": top["trainer"]}
    parts = {
        "decoder": checked("trainer.decoder.", given.pop("decoder", None) or {}, TRAINING, partial=True),
        "joint": checked("trainer.joint.", given.pop("joint", None) or {}, JOINT_TRAINING, partial=True),
    }
    out["trainer"] = checked("trainer.", given, TRAINING) | parts
    classifier = CLASSIFIERS.made("classifier", out["classifier"])
    out["layer"] = _layers(out["layer"], classifier)
    dataset = DATASETS.made("dataset", out["dataset"]).resolved()
    out["classifier"], out["dataset"] = classifier.resolved().plain(), dataset.plain()
    out["trainer"] = sizing.fitted_trainer(out["trainer"], dataset.training_images())
    if MODELS.made("model", out["model"]).judged:
        if isinstance(out["layer"], list):
            raise InputError(
                f"model=evaluation judges one layer's decoder; for each: -m layer={','.join(out['layer'])}"
            )
        of = out["model"]["of"]
        out["alpha"] = out["alpha"] if of in reference_of() else None
        if out["alpha"] is None and of in reference_of():
            raise InputError(f"alpha must be {MODELS[of].alpha.text} with model.of={of}, got null")
    if stage == "evaluate":
        out["metrics"] = _checked_metrics(top.get("metrics"))
    if stage == "train":
        return out
    if stage == "explain":
        out["image"] = _with_digests(checked("image.", top["image"], OWN_IMAGE))
    select = SELECTIONS.made("select", out["select"])
    if select.classes():  # else nobody asks for the names of a folder's, which may be gone
        out["select"] = select.numbered(dataset.class_names()).plain()
    return _with_explainers(out, top.get("explainers"))


def _with_digests(image: Options) -> Options:
    """Return the user's own images as a list of files, with the digest of each, which identifies the run.

    Raises:
        InputError: there is no such file, or no image in a folder.
    """
    paths = [] if image["path"] is None else own_files(listed(image["path"]))
    try:
        return {**image, "path": paths or None, "sha256": [digest(Path(path)) for path in paths]}
    except OSError as error:
        raise InputError(f"image={error.filename} cannot be read: {error.strerror}") from None


def own_files(given: Sequence[str]) -> list[str]:
    """Return the files that names of files and folders stand for.

    Raises:
        InputError: there is no such file, or no image in a folder.
    """
    out = []
    for word in given:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"image={word}: no image in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
            out += [str(file) for file in inside if not file.name.startswith(".")]
        elif path.is_file():
            out.append(str(path))
        else:
            raise InputError(f"image={word}: there is no such file or folder")
    return out


def _layers(given: str | list[str], classifier: ClassifierDeclaration) -> str | list[str]:
    """Return one layer, or a list of several; named layers are sorted from the image on."""
    named = classifier.layers
    if "all" in listed(given) and not named:
        raise InputError(
            f"layer=all needs named layers, and classifier={classifier.name} declares none: name modules by their "
            f"dotted paths, such as layer=[features.0,head]"
        )
    found = list(named) if given in ("all", ["all"]) else listed(given)
    if "all" in found:
        raise InputError(f"layer=all stands for {', '.join(named)}, and is given alone")
    if set(found) <= set(named):
        found = [name for name in named if name in found]
    return found if len(found) > 1 else found[0]


def _check_all(top: Options, groups: Sequence[str], rules: Mapping[str, Rule], more: Sequence[str] = ()) -> Options:
    """Return the checked groups and top-level keys of a config; the only other keys allowed are `more`."""
    keys = [*rules, *groups, *more]
    for key in top:
        if key not in keys:
            raise unknown("key", key, keys, "keys")
    for key in keys:
        if key not in top and key not in ("explainers", "metrics"):
            raise InputError(f"{key} is missing")
    out = {group: COMPONENTS[group].made(group, top[group]).plain() for group in groups}
    return out | checked("", {key: top[key] for key in rules}, rules)


def _plain(cfg: DictConfig) -> Options:
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} must be given") from None
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


RESERVED = (
    *("images", "labels", "predictions", "indices", "masks", "files", "classes", "probabilities"),
    *("file", "allow_pickle"),
)
"""Names that explainers cannot have: `explanations.npz` uses them for other arrays, or cannot hold them."""


def _with_explainers(settings: Options, given: Any) -> Options:
    """Return settings with checked explainers, and a model reduced to the kind that they need."""
    explainers: Options = {}
    own = MODELS[settings["model"]["name"]]
    for name, options in _chosen("explainer", given, EXPLAINERS).items():
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or name in RESERVED:
            reserved = ", ".join(RESERVED)
            raise InputError(f"an explainer cannot be called '{name}': letters, digits and _ only, and not {reserved}")
        if isinstance(options, dict) and "name" not in options:
            raise InputError(f"explainers.{name}.name is missing: it must be one of {', '.join(EXPLAINERS)}")
        explainers[name] = EXPLAINERS.made(f"explainers.{name}", options).plain()
        fits = EXPLAINERS[explainers[name]["name"]].fits
        if fits and own.name not in fits:
            raise InputError(f"explainer={name} needs model={' or '.join(fits)}, but this is model={own.name}")
    settings = {**settings, "explainers": explainers}
    if "metrics" in settings:
        settings = _measured(settings)
    methods = {options["name"] for options in settings["explainers"].values()}
    if settings["map"] != "recomputed" and not own.own_map:
        raise InputError(f"map={settings['map']} needs model=joint, but this is model={own.name}")
    if not {model for method in methods for model in EXPLAINERS[method].models} & {*reference_of()} and not own.own_map:
        references = [name for name in reference_of().values() if name in methods]
        model = {**settings["model"], "name": references[0]} if references else {"name": "classifier"}
        settings = {**settings, "model": model, "alpha": None}
    # A list of one and its only value are the same run.
    if isinstance(settings["target"], list) and len(settings["target"]) == 1:
        settings = {**settings, "target": settings["target"][0]}
    return settings


def _chosen(group: str, given: Any, known: Collection[str]) -> Options:
    """Return the components with a name: an experiment may hold options for others, which were not chosen."""
    given = given if isinstance(given, dict) else {}
    chosen = {k: v for k, v in given.items() if k not in known or not isinstance(v, dict) or "name" in v}
    if not chosen:
        raise InputError(f"{group} must name one or more of {', '.join(known)}")
    return chosen


def _checked_metrics(given: Any) -> Options:
    found = {}
    for name, options in _chosen("metric", given, METRICS).items():
        found[name] = METRICS.made(f"metrics.{name}", options).plain()
        if found[name]["name"] != name:
            raise InputError(f"metrics.{name}.name must be {name}, got '{found[name]['name']}'")
    return found


def _measured(settings: Options) -> Options:
    """Return settings with the explainers that the metrics measure, including controls; `unmeasured` are the others.

    Raises:
        InputError: a metric has nothing to measure.
    """
    metrics, given = settings["metrics"], settings["explainers"]
    maps = {n: options for n, options in given.items() if EXPLAINERS[options["name"]].answer != "image"}
    decoded = {n: options for n, options in given.items() if options["name"] in decoder_names()}
    several = isinstance(settings["layer"], list)  # a ladder, in which what layers drop is drawn
    images = decoded | {
        n: options
        for n, options in given.items()
        if several and EXPLAINERS[options["name"]].models and options["name"] not in decoder_names()
    }
    of_maps, of_decoders = (
        [name for name in metrics if METRICS[name].measures == what] for what in ("maps", "decoders")
    )
    if of_maps and not maps:
        raise InputError(f"metric={of_maps[0]} measures maps, but no explainer here gives one: {', '.join(given)}")
    if of_decoders and not decoded:
        needs = f"it needs explainer={' or '.join(decoder_names())}"
        raise InputError(f"metric={of_decoders[0]} measures decoders: {needs}")
    if of_maps and settings["controls"]:
        maps = {name: option("explainer", name) for name in controls()} | maps
    kept = (maps if of_maps else {}) | (images if of_decoders else {})
    return {**settings, "explainers": kept, "unmeasured": [name for name in given if name not in kept]}


def option(group: str, name: str) -> Options:
    """Return the values in the file of a group's option; without a file, the defaults of its declaration."""
    path = Path(conf_dir(), group, f"{name}.yaml")
    if group in COMPONENTS and not path.is_file():  # a user's own
        keys = COMPONENTS[group][name].keys.items()
        return {"name": name} | {key: own.default for key, own in keys if own.default is not MISSING}
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}


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
    lines |= {f"metrics.{name}.{key}": own.rule.text for name in metrics for key, own in METRICS[name].keys.items()}
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {what}" for key, what in lines.items())


def _described(model: str, explainers: Mapping[str, str]) -> dict[str, str]:
    """Return the rules of the keys of models and explainers."""
    lines = {"alpha": MODELS[model].alpha.text}
    lines |= {key: rule.text for key, rule in MODELS[model].weights.items()}
    for name, method in explainers.items():
        lines |= {f"explainers.{name}.{key}": own.rule.text for key, own in EXPLAINERS[method].keys.items()}
    lines |= {f"trainer.{key}": rule.text for key, rule in TRAINING.items()}
    lines["trainer.decoder.*"] = "any key of trainer, for ClaDec, RefAE and their VAEs only"
    lines["trainer.joint.*"] = "any key of trainer but lr, for the joint model only; of these some for each phase:"
    return lines | {f"trainer.joint.{key}": rule.text for key, rule in PHASES.items()}


def conf_dir() -> str:
    """Return the folder of the configs: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parents[1]
    return str(next(d for d in (here / "conf", here.parent / "conf") if (d / "train.yaml").is_file()))


def check_writable(out_dir: str) -> None:
    """Check that runs can be written.

    Raises:
        InputError: `out_dir` cannot be made, or no file can be written in it.
    """
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out_dir):
            pass
    except OSError as error:
        raise InputError(f"out_dir={out_dir}: nothing can be written there ({error.strerror})") from None
