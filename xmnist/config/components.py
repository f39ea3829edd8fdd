"""Components: the named parts of a command, each declared once, where it is defined. No torch.

A component is a frozen dataclass whose fields are its options, each with a rule and a line of help:

    @explainer("lrp", title="LRP")
    class Lrp(Heatmap):
        gamma: Annotated[float, number(0), "how much more positive contributions count"]

An instance holds the checked options that a command has chosen. Defaults of built-in components are in conf/, those of
others in their declaration. Code that needs a component asks its group, never a list of names.
"""

import dataclasses
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar, get_args, get_origin

from xmnist.config.rules import MOST, Rule, choice, number, text, whole, yes_or_no
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

others: list[Callable[[], None]] = []
"""Functions that load components in addition to the built-in ones; module `plugins` registers itself here."""

declaring: Source | None = None
"""The plug-in whose declarations are being read."""


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
        given = usual | options if isinstance(options, dict) else options
        if cls.plugin is not None and isinstance(given, dict):
            given.pop(PLUGIN, None)  # what `plain` says of it
        return cls(**checked(where, given, {name: key.rule for name, key in cls.keys.items()}))

    @classmethod
    def described(cls) -> Options:
        """Return its description for reports, as plain values."""
        return {"title": cls.title}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        """Return a class with the title of a component that is not here; `about` is an earlier `described`."""
        return type(name, (cls,), {"name": name, "title": str(about.get("title") or name)[:80]})

    def options(self) -> Options:
        """Return the options as plain values, in the order of their declaration."""
        return {name: getattr(self, name) for name in self.keys}

    def plain(self) -> Options:
        """Return name and options as configs and run directories hold them, with the plug-in if it is from one."""
        own = {"name": self.name, **self.options()}
        return own if self.plugin is None else own | {PLUGIN: self.plugin.plain() | self.described()}

    def identity(self) -> Options:
        """Return name and options as the names of runs hold them: all that can change a result; names stay stable."""
        untold = {key: self.keys[key].default for key in self.later}
        own = {
            key: value
            for key, value in self.plain().items()
            if key not in self.unseen and not (key in untold and untold[key] == value)
        }
        return own | ({PLUGIN: own[PLUGIN]["digest"]} if PLUGIN in own else {})  # another source is another run

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.options().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash(repr(self.plain()))


def source_of(told: Any) -> Options:
    """Return the plug-in of a component as its run directory records it; empty for a built-in component."""
    about = told.get(PLUGIN) if isinstance(told, dict) else None
    return {str(key): value for key, value in about.items()} if isinstance(about, dict) and "digest" in about else {}


def listed(value: Any) -> list[Any]:
    """Return the value of a key that takes one value or a list, as a list."""
    return value if isinstance(value, list) else [value]


def checked(where: str, given: Any, rules: Mapping[str, Rule], partial: bool = False) -> Options:
    """Check values by their rules and return them in normal form, in the order of the rules.

    Args:
        partial: whether keys may be missing.

    Raises:
        InputError: names the first key that is unknown, missing or not allowed.
    """
    if not isinstance(given, dict):
        raise InputError(f"{where.rstrip('.')} must be a group of keys, got {given!r}")
    for key in given:
        if key not in rules:
            raise unknown("key", f"{where}{key}", [f"{where}{k}" for k in rules], "keys")
    out = {}
    for key, rule in rules.items():
        if key in given:
            out[key] = converted(f"{where}{key}", given[key], rule)
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


C = TypeVar("C", bound=Component)

GROUPS: dict[str, "Group[Any]"] = {}
"""All groups, by the word for one of their components in messages."""


class Group(Generic[C]):
    """The components of one kind, by name, module by module in the order in which they are declared.

    The built-in ones are the declarations in the modules of a package, which are imported when the first is asked for.
    They must not import torch, so that a mistyped word is answered at once.

    Args:
        base: the base class of all of them.
        word: the word for one of them in messages and configs.
        package: the package of the built-in ones.
    """

    def __init__(self, base: type[C], word: str, package: str) -> None:
        self.base, self.word, self.package = base, word, package
        self._declared: dict[str, type[C]] = {}
        self._remembered: dict[str, type[C]] = {}
        GROUPS[word] = self

    @cached_property
    def _all(self) -> dict[str, type[C]]:
        package = import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                import_module(f"{self.package}.{module.name}")
        for load in others:
            load()
        return self._declared

    def _find(self, name: str) -> type[C] | None:
        """Return the component of that name. Most are in a module of their name, which saves the time to import all."""
        if name not in self._declared and "_all" not in vars(self) and name.isidentifier():
            with suppress(ModuleNotFoundError):
                import_module(f"{self.package}.{name}")
        return self._declared.get(name) or self._all.get(name)

    def own(self) -> list[type[C]]:
        """Return the components of plug-ins."""
        return [kind for kind in self._all.values() if kind.plugin is not None]

    def remember(self, name: str, about: Options) -> None:
        """Store the title of a component that is not here, from a finished run; it cannot be used."""
        if self._find(name) is None:
            self._remembered[name] = self.base.stand_in(name, about)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        # Modules are imported in any order, on demand; sorting by module makes the order the same in every process.
        order = list(self._all)
        return iter(sorted(order, key=lambda name: (self._all[name].__module__, order.index(name))))

    def __getitem__(self, name: str) -> type[C]:
        """Return the component of that name.

        Raises:
            InputError: there is none; names the nearest.
        """
        found = self._find(name)
        if found is None:
            raise unknown(self.word, name, self)
        return found

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: str) -> type[C] | None:
        """Return the component of that name, also one that is only remembered; None if it is not known here."""
        return self._find(name) or self._remembered.get(name)

    def known(self) -> list[type[C]]:
        """Return all components, including those that are only remembered."""
        return [*self.values(), *self._remembered.values()]

    def check_known(self, key: str, words: Iterable[str]) -> None:
        """Check that names are those of components, which may be only remembered.

        Raises:
            InputError: one is not; `key` is the word for it.
        """
        for word in words:
            if self.get(word) is None:
                raise unknown(key, word, [*self, *self._remembered])

    def values(self) -> list[type[C]]:
        """Return all components."""
        return [self._all[name] for name in self]

    def made(self, where: str, chosen: Any) -> C:
        """Return the component of `chosen`, a name or a group of keys that has a name and options.

        Raises:
            InputError: there is no such component, or an option is wrong.
        """
        options = dict(chosen) if isinstance(chosen, dict) else {"name": chosen}
        return self[str(options.pop("name", None))].made(f"{where}.", options)

    def recorded(self, told: Any) -> C:
        """Return the component that a run directory records; a stand-in if it is unknown here, or had other options.

        Raises:
            InputError: the record has no name.
        """
        name = told.get("name") if isinstance(told, dict) else None
        if not isinstance(name, str):
            raise InputError(f"{self.word}.name must be a name, got {name!r}")
        about = source_of(told)
        with suppress(InputError):
            made = self.made(self.word, told)
            if (made.plugin.digest if made.plugin else "") == about.get("digest", ""):
                return made
        kind = self.base.stand_in(name, about)
        kind.plain = lambda _: dict(told)  # type: ignore[assignment]
        return kind()

    def declare(self, kind: type[C], name: str, **about: Any) -> type[C]:
        """Register a class as a component of this name; `about` are class variables.

        Raises:
            InputError: there is one of this name already, its name is no word, or a key has no type; in a plug-in, a
                key has no default.
        """
        if not name.isidentifier():
            raise InputError(f"{self.word} '{name}' must be a word of letters, digits and _")
        # Built-in modules are still being imported here; a plug-in must also differ from those not imported so far.
        known = self._declared if declaring is None else self._all
        if name in known:
            raise InputError(f"{self.word} '{name}' is there already, declared in {known[name].__module__}")
        frozen = "__dataclass_fields__" in vars(kind)  # one that was made of a function is
        made = kind if frozen else dataclass(frozen=True, kw_only=True, eq=False, repr=False)(kind)
        for key, value in ({"name": name, "title": name.replace("_", " ")} | about).items():
            setattr(made, key, value)
        made.keys, made.plugin = keys_of(made), declaring
        for key, own in made.keys.items():
            if declaring and own.default is dataclasses.MISSING:
                raise InputError(f"{self.word} '{name}': key '{key}' needs a default, such as {key}: int = 10")
        self._declared[name] = made
        return made


def keys_of(kind: type) -> dict[str, Key]:
    """Return the options of a dataclass: its fields that are not `given`, with their rules.

    Raises:
        InputError: a field has no type that a rule is known for.
    """
    own = [each for each in dataclasses.fields(kind) if each.init and not each.metadata.get("given")]
    return {each.name: _key(kind, each.name, _annotation(kind, each), each.default) for each in own}


def _annotation(kind: type, own: dataclasses.Field[Any]) -> Any:
    """Return a field's type, also where the module that declares it has its annotations as texts."""
    if not isinstance(own.type, str):
        return own.type
    declaring = next(base for base in kind.__mro__ if own.name in vars(base).get("__annotations__", {}))
    return eval(own.type, vars(sys.modules[declaring.__module__]))  # what Python itself would have made of it


def _key(kind: type, name: str, annotation: Any, default: Any) -> Key:
    told = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    rule = next((each for each in told if isinstance(each, Rule)), None) or _rule(told[0])
    if rule is None:
        raise InputError(
            f"{kind.__module__}.{kind.__qualname__}: key '{name}' needs a type: bool, int, float, str, Literal[...] or "
            f"Annotated[type, rule]"
        )
    return Key(rule, next((each for each in told[1:] if isinstance(each, str)), ""), default)


def _rule(annotation: Any) -> Rule | None:
    """Return the rule of a plain type, or None."""
    if get_origin(annotation) is Literal:
        return choice(*get_args(annotation))
    rules = {
        bool: yes_or_no(),
        int: dataclasses.replace(whole(-MOST), text="a whole number"),
        float: number(),
        str: text("a text that is not empty"),
    }
    return rules.get(annotation)


def of_function(base: type[C], function: Callable[..., Any]) -> type[C]:
    """Return a component whose options are a function's keyword-only parameters; its attribute `function` calls it.

    A class, which is called like a function, is allowed too.

    Raises:
        InputError: a parameter has no type.
    """
    own, called = [], function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    known = getattr(called, "__globals__", {})
    for each in inspect.signature(function).parameters.values():
        if each.kind is inspect.Parameter.KEYWORD_ONLY:
            # Only these annotations are evaluated: those of tensors and networks would import torch.
            told = eval(each.annotation, known) if isinstance(each.annotation, str) else each.annotation
            default = {} if each.default is inspect.Parameter.empty else {"default": each.default}
            own.append((each.name, told, field(**default)))
    about = {"function": staticmethod(function), "__doc__": function.__doc__, "__module__": function.__module__}
    made = dataclasses.make_dataclass(
        function.__name__, own, bases=(base,), namespace=about, kw_only=True, frozen=True, eq=False, repr=False
    )
    made.__module__ = function.__module__
    return made
