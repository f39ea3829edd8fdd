"""Components: the named parts of a command, each declared once, where it is defined. No torch.

A component is a frozen dataclass whose fields are its options, each with a rule and a line of help:

    @explainer("lrp", title="LRP")
    class Lrp(Heatmap):
        gamma: Annotated[float, number(0), "how much more positive contributions count"]

An instance holds the checked options that a command has chosen. Defaults of built-in components are in conf/, those of
others in their declaration. Code that needs a component asks its group, never a list of names.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from xmnist.config.rules import Rule
from xmnist.runtime.errors import InputError, meant, unknown

Options = dict[str, Any]
"""Plain values by key."""


@dataclass(frozen=True)
class Key:
    """One option: its rule, a line of help, and its default, where the declaration has one."""

    rule: Rule
    help: str
    default: Any


@dataclass(frozen=True)
class Source:
    """The origin of a plug-in's component: a file or module by its digest, a package by its version."""

    name: str
    digest: str

    def plain(self) -> "Options":
        """Return it as plain values."""
        return {"from": self.name, "digest": self.digest}


PLUGIN = "plugin"
"""The key under which run directories record the plug-in that a component comes from."""


def given(default: Any = None) -> Any:
    """Return a field that is no option: the program fills it in."""
    return field(default=default, metadata={"given": True}, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """A named part of a command; an instance has the options that were chosen.

    Attributes:
        unseen: keys that say how something is done, and change no result.
        later: keys that came later: a name holds them only where they differ from their defaults.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    keys: ClassVar[Mapping[str, Key]] = {}
    plugin: ClassVar[Source | None] = None
    unseen: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def made(cls, where: str, options: Any) -> Self:
        """Return a component with these options; missing ones take the defaults of its declaration, if there are any.

        Args:
            where: the prefix of keys in messages, such as `explainers.lrp.`.

        Raises:
            InputError: names the first option that is unknown, missing or not allowed.
        """
        usual = {name: key.default for name, key in cls.keys.items() if key.default is not dataclasses.MISSING}
        values = usual | options if isinstance(options, dict) else options
        if cls.plugin is not None and isinstance(values, dict):
            values.pop(PLUGIN, None)  # what `plain` says of it
        return cls(**checked(where, values, {name: key.rule for name, key in cls.keys.items()}))

    @classmethod
    def check_plugin(cls) -> None:
        """Check that a plug-in may declare it.

        Raises:
            InputError: it may not.
        """

    @classmethod
    def described(cls) -> Options:
        """Return its description for reports, as plain values."""
        return {"title": cls.title} | ({"unseen": list(cls.unseen)} if cls.unseen else {})

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        """Return a class with the title of a component that is not here; `about` is an earlier `described`."""
        unseen = about.get("unseen")
        facts = {"name": name, "title": str(about.get("title") or name)[:80]}
        return type(name, (cls,), facts | {"unseen": tuple(map(str, unseen)) if isinstance(unseen, list) else ()})

    def options(self) -> Options:
        """Return the options as plain values, in the order of their declaration."""
        return {name: getattr(self, name) for name in self.keys}

    def plain(self) -> Options:
        """Return name and options as configs and run directories hold them, with the plug-in if it is from one."""
        record = {"name": self.name, **self.options()}
        return record if self.plugin is None else record | {PLUGIN: self.plugin.plain() | self.described()}

    def identity(self) -> Options:
        """Return name and options as the names of runs hold them: all that can change a result; names stay stable."""
        defaults = {key: self.keys[key].default for key in self.later}
        record = {
            key: value
            for key, value in self.plain().items()
            if key not in self.unseen and not (key in defaults and defaults[key] == value)
        }
        # another source is another run
        return record | ({PLUGIN: record[PLUGIN]["digest"]} if PLUGIN in record else {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.options().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash(repr(self.plain()))


def source_of(record: Any) -> Options:
    """Return the plug-in of a component as its run directory records it; empty for a built-in component."""
    about = record.get(PLUGIN) if isinstance(record, dict) else None
    return {str(key): value for key, value in about.items()} if isinstance(about, dict) and "digest" in about else {}


def listed(value: Any) -> list[Any]:
    """Return the value of a key that takes one value or a list, as a list."""
    return value if isinstance(value, list) else [value]


def checked(where: str, values: Any, rules: Mapping[str, Rule], partial: bool = False) -> Options:
    """Check values by their rules and return them in normal form, in the order of the rules.

    Args:
        partial: whether keys may be missing.

    Raises:
        InputError: names the first key that is unknown, missing or not allowed.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where.rstrip('.')} must be a group of keys, got {values!r}")
    for key in values:
        if key not in rules:
            raise unknown("key", f"{where}{key}", [f"{where}{k}" for k in rules], "keys")
    out = {}
    for key, rule in rules.items():
        if key in values:
            out[key] = converted(f"{where}{key}", values[key], rule)
        elif not partial:
            raise InputError(f"{where}{key} is missing: it must be {rule.text}")
    return out


def converted(key: str, value: Any, rule: Rule, more: str = "") -> Any:
    """Return a value in its rule's normal form.

    Raises:
        InputError: it is not allowed; `more` adds to the message in which case the rule applies.
    """
    try:
        return rule.convert(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{key} must be {rule.text}{more}, got {value!r}{meant(value, rule.words)}") from None
