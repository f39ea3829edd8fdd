"""Parsing of a command line: its words are sorted and rewritten as Hydra reads them. No torch, no Hydra."""

import re
from collections.abc import Sequence
from pathlib import Path

from xmnist.cli.suggestions import meant
from xmnist.config.rules import quoted
from xmnist.runtime.errors import InputError

VALUED = (
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c"),
    "--experimental-rerun",
)
"""Hydra's flags that take the next word as their value."""


def trusted(argv: list[str]) -> tuple[bool, list[str]]:
    """Return whether the configs may call anything, and the other words.

    Only typed words count, never those of a file.

    Raises:
        InputError: `trust` is neither true nor false.
    """
    trust_words = [word for word in argv if re.match(r"\+*trust=", word)]
    for word in trust_words:
        if word not in ("trust=true", "trust=false"):
            raise InputError(f"trust must be true or false, got '{word.partition('=')[2]}'")
    return "trust=true" in trust_words, [word for word in argv if word not in trust_words]


SWEPT = re.compile(r"(dataset|classifier|model|select)=(?!\[).*[,(]")
"""Pattern of a word that sweeps over several options of a config group."""


def divided(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return the overrides and the flags of a command line; Hydra needs the overrides first, in one block."""
    overrides, flags = list[str](), list[str]()
    for before, word in zip(["", *argv], argv, strict=False):
        is_override = before not in VALUED and (word.startswith("~") or ("=" in word and not word.startswith("-")))
        (overrides if is_override else flags).append(word)
    return overrides, flags


def _small(overrides: Sequence[str]) -> list[str]:
    """Return the override that experiment smoke needs in addition: a part of the chosen data set.

    Hydra cannot choose that in a config.
    """
    if not any(re.fullmatch(r"\+*experiment=smoke", word) for word in overrides):
        return []
    from xmnist.config import defaults  # and OmegaConf

    names = [word.partition("=")[2] for word in overrides if word.startswith("dataset=")]
    name = names[-1] if names else "glyphs"
    return [f"+small@dataset={name}"] if Path(defaults.conf_dir(), "small", f"{name}.yaml").is_file() else []


def refuse_bare(stage: str, flags: Sequence[str]) -> None:
    """Refuse words that are neither KEY=VALUE, nor a flag, nor the value of a flag.

    Raises:
        InputError: there is such a word; the message names it, and the key that was probably meant.
    """
    takes = (*VALUED, "--info", "-i")  # the last two may have a value
    bare = [word for before, word in zip(["", *flags], flags, strict=False) if before not in takes]
    words = [word for word in bare if not word.startswith("-")]
    if not words:
        return
    word, value = words[0], words[1] if len(words) > 1 else "true" if words[0] in ("open", "force") else "VALUE"
    if word in ("help", "usage"):
        raise InputError(f"did you mean 'xmnist {stage} --help'?")
    # `open` is a key of stage report alone, so the general suggestions do not know it.
    known = "open" if word == "open" and stage == "report" else meant(word)
    hint = f"; did you mean {known}={value}?" if known else f": words are KEY=VALUE (xmnist {stage} --help)"
    raise InputError(f"cannot read '{word}'{hint}")


def of_flag(message: str, argv: Sequence[str]) -> str:
    """Return the error message for an unknown flag: the key that was probably meant, or else argparse's message."""
    match = re.match(r"unrecognized arguments: --([\w-]+)(?:=(\S+))?", message)
    known = meant(match[1]) if match else None
    if not match or not known:
        return message
    after = argv[argv.index(f"--{match[1]}") + 1 :] if f"--{match[1]}" in argv else []
    value = match[2] or (after[0] if after and not after[0].startswith("-") else "VALUE")
    return f"no flag --{match[1]}; did you mean {known}={value}?"


def of_stage(stage: str, overrides: Sequence[str]) -> list[str]:
    """Return the overrides in the form of a stage's config, with those that an experiment needs in addition."""
    write = {"report": _of_report, "explain": _of_image}.get(stage, str)
    words = [write(word) for word in overrides]
    return words + _small(words)


def freed(overrides: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the overrides, some with `++`, so that Hydra accepts keys that the composed config does not have.

    These are all keys of `trainer.decoder` and `trainer.joint`, and the keys of a swept group, which only some of its
    options may have. The check of a job refuses keys that its own option lacks.
    """
    free = ["trainer.decoder.", "trainer.joint."]
    if {"-m", "--multirun"} & set(flags):
        free += [f"{match[1]}." for word in overrides if (match := SWEPT.match(word))]
    return [f"++{word}" if word.startswith(tuple(free)) else word for word in overrides]


def _of_image(word: str) -> str:
    """Return the word image=FILE as Hydra reads it, with quotes: a file's name may have blanks, = and commas."""
    match = re.fullmatch(r"\+*image=(.+)", word, re.DOTALL)
    if not match or match[1] == "null":
        return word
    value = match[1]
    if not value.startswith(("[", "'", '"')):
        value = quoted(value)
    return f"image.path={value}"


def _of_report(word: str) -> str:
    """Return a word of `xmnist report` as Hydra reads it: groups are filters, and a run's folder has = and commas."""
    key, _, value = word.partition("=")
    if key == "run" and value != "null" and not value.startswith(("'", '"')):
        return f"run={quoted(value)}"
    return re.sub(r"^\+*(dataset|model|experiment)=", r"only.\1=", word)
