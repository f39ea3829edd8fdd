"""Model cards of the trained classifiers and joint models: their data, training, errors and limits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xmnist.config.components import Options
from xmnist.config.derived import phases
from xmnist.config.kinds import explained_names
from xmnist.metrics.statistics import share_interval
from xmnist.reporting.collected import apart, content, each, grid, stands_on
from xmnist.runs import commands, store, titles
from xmnist.runs.index import Found
from xmnist.runs.query import text_of
from xmnist.runtime.reading import csv_rows

FEW = 1000
"""Number of test images below which a card warns that rare errors may not have been seen."""


@dataclass
class Card:
    """The model card of a network; `facts` are sections, each with names and their texts."""

    id: str
    title: str
    facts: dict[str, dict[str, str]]
    limits: list[str]
    classes: list[dict[str, str]] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    missing: str = ""
    warnings: list[str] = field(default_factory=list)

    def shade(self, row: int, column: int) -> int:
        """Return the shade of a cell of the confusion matrix, 0 to 9: its share of the row; any image is visible."""
        share = self.confusion[row][column] / max(1, sum(self.confusion[row]))
        return min(9, int(share * 9) + (share > 0))


def cards(several: Sequence[Found]) -> list[Card]:
    """Return the cards of all classifiers and joint models; of several `evaluate` runs, the newest one is used."""
    measured: dict[str, Found] = {}
    for run in several:
        needs = stands_on(run) if run.stage == "evaluate" else []
        if needs and (run.path / "confusion.csv").is_file():
            measured[store.run_id("train", needs[0])] = run
    learnt = [run for run in several if run.stage == "train" and run.model in explained_names()]
    seeds = [_seedless(run) for run in learnt]
    out = list(
        each("the card of", learnt, lambda run: _card(run, measured.get(run.path.name), seeds.count(_seedless(run))))
    )
    more = {run.id: text for run, text in zip(learnt, apart(learnt).values(), strict=True) if text}
    for card in out:
        card.title += f" ({more[card.id]})" if card.id in more else ""
    return out


def _seedless(run: Found) -> str:
    return store.run_id("train", replace(run.own, seed=0))


def _card(run: Found, measured: Found | None, seeds: int) -> Card:
    data, metrics = content(run.path / "data.json"), content(run.path / "metrics.json")
    title = titles.title(run.own)
    card = Card(run.id, title, {}, [], warnings=run.warnings)
    counts = {name: sum(per_class) for name, per_class in data.get("images", {}).items()}
    if measured is not None:
        table = grid(measured.path / "confusion.csv")[1:]
        card.names, card.confusion = [row[0] for row in table], [[int(value) for value in row[1:]] for row in table]
        by_class = csv_rows(measured.path / "classification.csv")
        for mean in by_class[len(card.names) :]:
            mean["class"] = f"all ({mean['class']})"
        card.classes = [{key: _figure(key, value) for key, value in row.items()} for row in by_class]
    else:
        card.missing = _measuring(run)
    card.facts["Data"] = _data(run, data, counts)
    card.facts["Network"] = _network(run)
    card.facts["Training"] = _trained(run, metrics)
    card.facts["On the test set"] = _tested(metrics, counts, card)
    card.limits = _limits(run, counts, seeds, card)
    return card


def _data(run: Found, data: dict[str, Any], counts: dict[str, int]) -> dict[str, str]:
    keys, out = run.own.dataset.plain(), {"data set": run.dataset}
    if data:
        height, width = data["shape"][1:]
        out["images"] = f"{height} x {width} pixels, {'gray' if data['shape'][0] == 1 else 'RGB'}, values from 0 to 1"
        names = data["classes"]
        out["classes"] = f"{len(names)}: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
        out["split"] = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        out["read"] = "; ".join(data.get("read", []))
        if data["masks"]:
            out["ground truth"] = "masks of the objects"
    out["validation"] = f"{100 * keys['validation']:g} % of each class's training images, by the run's seed"
    out["settings"] = _options_text(
        {key: value for key, value in keys.items() if key not in ("validation", "path", "fingerprint")}
    )
    return {name: text for name, text in out.items() if text}


def _network(run: Found) -> dict[str, str]:
    settings, out = run.own, {"classifier": run.own.classifier.name}
    out["settings"] = _options_text(settings.classifier.plain())
    text = (run.path / "model.txt").read_text(encoding="utf-8") if (run.path / "model.txt").is_file() else ""
    if totals := re.findall(r"^([\d,]+) parameters", text, re.MULTILINE):
        out["parameters"] = max(totals, key=lambda total: int(total.replace(",", "")))
    if settings.weights:
        weights = ", ".join(
            f"{key} {text_of(value)}" for key, value in {"alpha": settings.alpha, **settings.weights}.items()
        )
        out["loss"] = f"{settings.model.loss}, {weights}"
    return {name: text for name, text in out.items() if text}


def _rate(by_phase: Sequence[float | dict[str, float]]) -> str:
    """Return a training's learning rate; where the parts of a model have their own, each in every phase."""
    parts = [phase for phase in by_phase if isinstance(phase, dict)]
    rates = {part: ", ".join(text_of(phase[part]) for phase in parts) for part in (parts[0] if parts else ())}
    return "; ".join(f"{part} {text}" for part, text in rates.items()) or text_of(by_phase[0])


def _trained(run: Found, scores: dict[str, Any]) -> dict[str, str]:
    several, environment = phases(run.own), content(run.path / "environment.json")
    first = several[0]
    out = {"optimiser": f"{first.optimizer.title}, {first.schedule.title}, batches of {first.batch_size}"}
    out["rate"] = f"{_rate([phase.lr for phase in several])}, weight decay {text_of(first.weight_decay)}"
    out |= {"epochs": str(scores["epochs"])} if "epochs" in scores else {}
    out["seed"] = str(run.own.seed)
    if environment:
        versions = environment.get("versions", {})
        out["made with"] = (
            f"xmnist {versions.get('xmnist')}, torch {versions.get('torch')}, {environment.get('device')}"
        )
    if run.seconds:
        out["seconds"] = f"{run.seconds:.0f}"
    return out


def _tested(scores: dict[str, Any], counts: dict[str, int], card: Card) -> dict[str, str]:
    out, accuracy = {}, scores.get("accuracy")
    if accuracy is not None:
        out["accuracy"] = f"{accuracy:.4f}"
        if count := counts.get("test"):
            low, high = share_interval(round(accuracy * count), count)
            out["accuracy"] += f" [{low:.4f}, {high:.4f}], {round((1 - accuracy) * count):,} of {count:,} wrong"
    out |= {key.replace("_", " "): f"{scores[key]:.4f}" for key in ("loss", "explanation_loss") if key in scores}
    means = {row["class"]: row for row in card.classes[len(card.names) :]}
    if "all (macro)" in means:
        out["F1, mean over classes"] = means["all (macro)"]["f1"]
    return out


def _limits(run: Found, counts: dict[str, int], seeds: int, card: Card) -> list[str]:
    """Return the limits of the conclusions that the scores of a card allow."""
    options, drawn, out = run.own.dataset.plain(), run.own.dataset.drawn, list[str]()
    parts = [
        f"{options[key]:,} {name} images"
        for key, name in (("train", "training"), ("test", "test"))
        if isinstance(options.get(key), int)
    ]
    if parts and not drawn:
        out.append(f"Only {' and '.join(parts)} of the data set were used.")
    if drawn:
        out.append("The images are made by a program; nothing is known of photographs, or of writing by hand.")
    if counts.get("test", FEW) < FEW:
        out.append(f"It was tested on {counts['test']} images: what happens seldom may not have been seen.")
    if seeds == 1:
        out.append("Of its trainings, this page has one: intervals are over test images, not over seeds.")
    if confused := _most_confused(card):
        out.append(confused)
    scored = [row for row in card.classes[: len(card.names)] if row.get("recall")]
    if len(scored) > 1:
        worst = min(scored, key=lambda row: float(row["recall"]))
        recall = 100 * float(worst["recall"])
        out.append(f"It is worst at class {worst['class']}, of whose images it recognises {recall:.1f} %.")
    out.append(
        "It is a closed-set classifier: it does not detect images of other classes (no out-of-distribution detection)."
    )
    out.append("Test images are from the same source as training images: how it does on others was not measured.")
    return out


def _most_confused(card: Card) -> str:
    pairs = [(count, i, j) for i, row in enumerate(card.confusion) for j, count in enumerate(row) if i != j and count]
    if not pairs:
        return ""
    most = [pair for pair in pairs if pair[0] == max(pairs)[0]]
    # Of equally frequent confusions, the one with the largest share of its true class weighs most.
    count, true, predicted = max(most, key=lambda pair: pair[0] / sum(card.confusion[pair[1]]))
    text = "Its most frequent mistake" if len(most) == 1 else "Among its most frequent mistakes"
    of = sum(card.confusion[true])
    return f"{text}: {card.names[true]} → {card.names[predicted]} (true → predicted), {count:,} of {of:,} times."


def _measuring(run: Found) -> str:
    """Return the command that measures the confusion matrix of a network."""
    untold = ("model=classifier", "out_dir=", "data_dir=", "device=", "fail_fast=")
    words = [word for word in commands.words(run.own) if not word.startswith(untold)]
    model = run.own.model
    words += [f"explainer={model.explainers[0]}"] if model.own_map else []
    return commands.public(["xmnist", "evaluate", *words, "metric=classification"])


def _figure(key: str, value: str) -> str:
    if key == "class" or not value:
        return value
    return f"{float(value):.0f}" if key == "support" else f"{float(value):.4f}"


def _options_text(options: Options) -> str:
    return ", ".join(f"{key}={text_of(value)}" for key, value in options.items() if key != "name" and value is not None)
