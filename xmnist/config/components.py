"""Components: what a command can name, each declared once, where it is defined. No torch.

A component is a frozen dataclass whose fields are its options, each with a rule and a line of help:

    @explainer("lrp", title="LRP")
    class Lrp(Heatmap):
        gamma: Annotated[float, number(0), "how much more positive contributions count"]

An instance is what a command has chosen, its options checked. Defaults of built-in components stand in conf/, those of
others in their declaration. Who needs a component asks its group, never a list of names.
"""

import dataclasses
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
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
    """One option: what it takes, a line of help, and its default, where the declaration has one."""

    rule: Rule
    help: str
    default: Any


def given(default: Any = None) -> Any:
    """A field that is no option: the program fills it in."""
    return field(default=default, metadata={"given": True}, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """What a command can name; an instance has the options that were chosen.

    Attributes:
        unseen: keys that say how something is done, and change no result.
        later: keys that came later: a name holds them only where they differ from their defaults.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    keys: ClassVar[Mapping[str, Key]] = {}
    unseen: ClassVar[tuple[str, ...]] = ()
    later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def made(cls, where: str, options: Any) -> Self:
        """A component of these options; those that are missing are as its declaration says, where it does.

        Args:
            where: what stands before the keys in messages, such as `explainers.lrp.`.

        Raises:
            InputError: names the first option that is unknown, missing or not allowed.
        """
        usual = {name: key.default for name, key in cls.keys.items() if key.default is not dataclasses.MISSING}
        given = usual | options if isinstance(options, dict) else options
        return cls(**checked(where, given, {name: key.rule for name, key in cls.keys.items()}))

    def options(self) -> Options:
        """The options as plain values, in the order of their declaration."""
        return {name: getattr(self, name) for name in self.keys}

    def plain(self) -> Options:
        """Name and options as plain values, as configs and run directories hold them."""
        return {"name": self.name, **self.options()}

    def identity(self) -> Options:
        """Name and options as the names of runs hold them: all that can change a result, as it was always said."""
        untold = {key: self.keys[key].default for key in self.later}
        return {
            key: value
            for key, value in self.plain().items()
            if key not in self.unseen and not (key in untold and untold[key] == value)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash(repr(self.plain()))


def listed(value: Any) -> list[Any]:
    """What a key holds that takes one value or a list."""
    return value if isinstance(value, list) else [value]


def checked(where: str, given: Any, rules: Mapping[str, Rule], partial: bool = False) -> Options:
    """Values by their rules, in normal form, in the order of the rules.

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
    """A value in its rule's normal form.

    Raises:
        InputError: it is not allowed; `more` is what else the message says of when.
    """
    try:
        return rule.convert(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{key} must be {rule.text}{more}, got {value!r}{meant(value, rule.words)}") from None


C = TypeVar("C", bound=Component)


class Group(Generic[C]):
    """The components of one kind, by name, module by module in the order in which they are declared.

    The built-in ones are the declarations in the modules of a package, which are imported when the first is asked for.
    They must not import torch, so that a mistyped word is answered at once.

    Args:
        base: what all of them derive from.
        word: what messages and configs call one of them.
        package: where the built-in ones are.
    """

    def __init__(self, base: type[C], word: str, package: str) -> None:
        self.base, self.word, self.package = base, word, package
        self._declared: dict[str, type[C]] = {}

    @cached_property
    def _all(self) -> dict[str, type[C]]:
        package = import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                import_module(f"{self.package}.{module.name}")
        return self._declared

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[str]:
        order = list(self._all)
        return iter(sorted(order, key=lambda name: (self._all[name].__module__, order.index(name))))

    def __getitem__(self, name: str) -> type[C]:
        """The component of that name.

        Raises:
            InputError: there is none; names the nearest.
        """
        if name not in self._all:
            raise unknown(self.word, name, self)
        return self._all[name]

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: str) -> type[C] | None:
        """The component of that name; None for what is not known here, such as a plug-in's."""
        return self._all.get(name)

    def values(self) -> list[type[C]]:
        """All components."""
        return [self._all[name] for name in self]

    def made(self, where: str, chosen: Any) -> C:
        """The component that `chosen` names, a name or a group of keys with one, with the options that it gives.

        Raises:
            InputError: there is no such component, or an option is wrong.
        """
        options = dict(chosen) if isinstance(chosen, dict) else {"name": chosen}
        return self[str(options.pop("name", None))].made(f"{where}.", options)

    def recorded(self, told: Any) -> C:
        """The component that a run directory tells of; one that is not known here, or had other options, is just that.

        Raises:
            InputError: what is told has no name.
        """
        name = told.get("name") if isinstance(told, dict) else None
        if not isinstance(name, str):
            raise InputError(f"{self.word}.name must be a name, got {name!r}")
        try:
            return self.made(self.word, told)
        except InputError:
            about = {"name": name, "title": name.replace("_", " "), "plain": lambda _: dict(told)}
            return type(self.base.__name__, (self.base,), about)()

    def declare(self, kind: type[C], name: str, **about: Any) -> type[C]:
        """Make a class known as a component of this name; `about` are class variables.

        Raises:
            InputError: there is one of this name already, or a key has no type.
        """
        if name in self._declared:
            raise InputError(f"{self.word} '{name}' is there already, declared in {self._declared[name].__module__}")
        frozen = "__dataclass_fields__" in vars(kind)  # one that was made of a function is
        made = kind if frozen else dataclass(frozen=True, kw_only=True, eq=False)(kind)
        for key, value in ({"name": name, "title": name.replace("_", " ")} | about).items():
            setattr(made, key, value)
        made.keys = keys_of(made)
        self._declared[name] = made
        return made


def keys_of(kind: type) -> dict[str, Key]:
    """The options of a dataclass: its fields that are not `given`, with their rules.

    Raises:
        InputError: a field has no type that a rule is known for.
    """
    own = [each for each in dataclasses.fields(kind) if each.init and not each.metadata.get("given")]
    return {each.name: _key(kind, each.name, _annotation(kind, each), each.default) for each in own}


def _annotation(kind: type, own: dataclasses.Field[Any]) -> Any:
    """A field's type, also where the module that declares it has its annotations as texts."""
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
    """What a plain type allows."""
    if get_origin(annotation) is Literal:
        return choice(*get_args(annotation))
    rules = {bool: yes_or_no(), int: whole(-MOST), float: number(), str: text("a text that is not empty")}
    return rules.get(annotation)


def of_function(base: type[C], function: Callable[..., Any]) -> type[C]:
    """A component whose options are the keyword-only parameters of a function, which its attribute `function` calls.

    Also of a class, which is called like one.

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
        function.__name__, own, bases=(base,), namespace=about, kw_only=True, frozen=True, eq=False
    )
    made.__module__ = function.__module__
    return made
