"""The run that a command works on (`run=`): the command takes over its settings and may not contradict them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmnist.config import plugins
from xmnist.config.derived import explained, trained
from xmnist.config.kinds import MODELS, ModelDeclaration
from xmnist.config.schema import INCIDENTAL
from xmnist.config.settings import Settings
from xmnist.runs import commands, index, similar, store
from xmnist.runs.index import Found
from xmnist.runs.query import text_of
from xmnist.runtime.errors import InputError


class Basis:
    """A finished `train` run, with the word that named it on the command line."""

    def __init__(self, word: str, run: Found) -> None:
        self.word, self.run = f"run={word}" + (f" ({run.id})" if word == index.LAST else ""), run
        self.model, self.kind = str(run.model), _kind(run.model)

    def words(self) -> list[str]:
        """Return the overrides that lead to this run, without `model=classifier`, so that the model is left open."""
        open_ = (*(f"{key}=" for key in INCIDENTAL), "model=classifier")
        return [word for word in commands.words(self.run.own) if not word.startswith(open_)]

    def check(self, now: Settings) -> None:
        """Check that a job works on this run; `now` is the job's config as the settings of a training.

        Raises:
            InputError: a word of the command contradicts the run; the run's data or version have changed.
        """
        for key, (before, after) in similar.differences(self.run.settings, now.plain()).items():
            raise self._contradiction(key, before, after)
        # The settings agree, so a different name can only come from another version of the naming.
        name = store.run_id("train", now if now.model.name == self.model else trained(now, self.model))
        if name != self.run.path.name:
            raise InputError(f"{self.word} was made by another version of xmnist: this one would call it {name}")

    def _contradiction(self, key: str, before: Any, after: Any) -> InputError:
        if key == "dataset.fingerprint":
            return InputError(f"{self.word} was trained on other files than those in dataset.path now: train it again")
        key = key.removesuffix(".name")
        hint = ""
        if self.kind.decodes and not similar.decides("classifier", key):
            base = store.run_id("train", explained(self.run.own))[-8:]
            hint = f" for another decoder of the same classifier: run={base}, or"
        return InputError(
            f"{self.word} has {key}={text_of(before)}, but this command says {key}={text_of(after)}:{hint} leave one "
            f"of them out"
        )


def suits(stage: str, path: Path) -> bool:
    """Return whether a stage can work on the run in a folder: a trained network; for a new decoder, a classifier."""
    *_, run_stage, _, model, _ = ("", "", "", "", *path.absolute().parts)
    kind = _kind(model)
    return run_stage == "train" and (kind.decodable if stage == "train" else kind.explained or kind.decodes)


def _kind(model: str | None) -> type[ModelDeclaration]:
    """Return the declaration of the model of that name, or the base declaration if the name is unknown."""
    return MODELS.get(model or "") or ModelDeclaration


def taken_up(stage: str, overrides: Sequence[str]) -> tuple[list[str], Basis | None]:
    """Return a command's words with those of the run that it names with `run=`, and that run.

    Raises:
        InputError: there is no such run, or the stage cannot work on it; `run` is given twice or swept over.
    """
    named = [word for word in overrides if re.match(r"\+*run=", word)]
    if not named:
        return _with_explainers(stage, overrides), None
    word = named[-1].partition("=")[2].strip("'\"")
    if len(named) > 1 or not word or word == "null":
        raise InputError("run= takes one run: the first digits of its hash, its folder, or last")
    out_dirs = [override.partition("=")[2].strip("'\"") for override in overrides if override.startswith("out_dir=")]
    run = index.named(word, Path(out_dirs[-1] if out_dirs else "outputs"), lambda path: suits(stage, path))
    _check(stage, word, run)
    basis, typed = Basis(word, run), [override for override in overrides if override not in named]
    words = [override for override in basis.words() if override not in typed]
    folder = str(run.path.parents[3])
    if not out_dirs and folder != str(Path("outputs").resolve()):
        words.append(f"out_dir={commands.spelled(folder)}")
    elif out_dirs and Path(out_dirs[-1]).resolve() != run.path.resolve().parents[3]:
        raise InputError(f"{basis.word} lies in {folder}, but this command says out_dir={out_dirs[-1]}")
    # The recorded folder may be gone, or on another machine: then the default applies.
    data = run.own.data_dir
    if Path(data).is_dir() and not any(override.startswith("data_dir=") for override in typed):
        words.append(f"data_dir={commands.spelled(data)}")
    for group in ("dataset", "classifier", "model"):  # Hydra accepts one option of a group
        chosen = [override for override in words if override.startswith(f"{group}=")]
        mine = [override for override in typed if override.startswith(f"{group}=")]
        usual = getattr(run.own, group).name
        if mine and mine[-1] != f"{group}={usual}" and (group != "model" or not basis.kind.decodable):
            raise basis._contradiction(f"{group}.name", usual, mine[-1].partition("=")[2])
        words = [override for override in words if override not in chosen or not mine]
    return _with_explainers(stage, [*words, *typed]), basis


def _check(stage: str, word: str, run: Found) -> None:
    if run.stage != "train":
        bases = index.as_run(run.path, run.stage, run.settings).bases() if run.settings else []
        such = f", such as run={bases[0].id}, which it stands on" if bases else ""
        raise InputError(f"run={word} is of xmnist {run.stage}: xmnist {stage} works on a trained network{such}")
    if files := plugins.missing(run.settings):
        raise InputError(
            f"run={word} was made with plug-ins that are not loaded, or are others by now: plugins=[{','.join(files)}]"
        )
    if not suits("explain", run.path):
        raise InputError(f"run={word} is an evaluation classifier, which judges a decoder, and is not explained itself")
    if run.state != "done" or run.edited:
        why = f" ({run.error})" if run.error else ""
        again = (
            "" if run.state == "damaged" or run.edited else "; its command goes on with it: xmnist runs show " + word
        )
        raise InputError(f"run={word} cannot be worked on: {'edited' if run.edited else run.state}{why}{again}")


def _with_explainers(stage: str, words: Sequence[str]) -> list[str]:
    """Return the words, with explainers that fit the model where none are named: the default ones are ClaDec's."""
    model = next((word.partition("=")[2] for word in words if word.startswith("model=")), "")
    named = any(re.match(r"\+*(explainer|experiment)[=@]", word) for word in words)
    if stage not in ("explain", "evaluate") or named or not (declared := MODELS.get(model)) or not declared.explainers:
        return list(words)
    return [*words, f"explainer=[{','.join(declared.explainers)}]"]
