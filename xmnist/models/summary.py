"""Table of a network: its layers in the order of the forward pass, their outputs and parameters."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HEADINGS = ("layer", "type", "output", "parameters", "remark")

LEGEND = "Outputs are of one image; parameters in brackets are those of the lines that follow."
MARKS = "layer: what layer=NAME calls it; any other line can be named too. gate: where model=joint multiplies its map."


@dataclass
class Seen:
    """A module's calls: the shape of its output, without the batch, and the number of calls."""

    output: str = ""
    times: int = 0


Trace = dict[nn.Module, Seen]
"""The modules that took part in a forward pass, in the order in which they were called."""


def trace(model: nn.Module, forward: Callable[[], object]) -> Trace:
    """Record a model's modules while `forward` calls it, in eval mode; mode, weights and random states are restored."""
    record: Trace = {}

    def enter(module: nn.Module, args: Any) -> None:
        record.setdefault(module, Seen())

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        record[module] = Seen(shape(output), record[module].times + 1)

    # Each module has its own mode: a joint model may hold frozen parts in eval mode while others train.
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with ExitStack() as undo, torch.random.fork_rng(devices), torch.no_grad():
        for module in modes:
            undo.callback(module.register_forward_pre_hook(enter).remove)
            undo.callback(module.register_forward_hook(leave).remove)
        try:
            model.eval()
            forward()
        finally:
            for module, mode in modes.items():
                module.training = mode
    return record


def shape(output: Any) -> str:
    """Return the shape of a tensor, or of each in a tuple or list, without the batch."""
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape[1:]))
    return ", ".join(map(shape, output)) if isinstance(output, tuple | list) else ""


def table(title: str, network: nn.Module, record: Trace, marked: Mapping[str, Iterable[str]]) -> str:
    """Return a network's layers, a line each, and its number of parameters.

    Modules of modules have a line if they are marked, or have parameters of their own.

    Args:
        title: a line above it, or nothing.
        record: of a forward pass through it.
        marked: remark -> the dotted names of the modules that have it.
    """
    names = {module: name for name, module in network.named_modules()}
    remarks: dict[nn.Module, list[str]] = {
        network.get_submodule(name): [] for marked_names in marked.values() for name in marked_names
    }
    for remark, marked_names in marked.items():
        for name in marked_names:
            remarks[network.get_submodule(name)].append(remark)
    rows, unused = [], 0
    for module in [*record, *(module for module in names if module not in record)]:
        own_count, look = count(module.parameters(recurse=False)), record.get(module, Seen())
        leaf = next(module.children(), None) is None
        if module not in record:
            unused += own_count
        elif module in names and look.times and (leaf or own_count or module in remarks):
            row_remarks = [*remarks.get(module, []), *([f"{look.times} times"] if look.times > 1 else [])]
            size = f"{own_count:,}" if leaf or own_count else f"({count(module.parameters()):,})"
            rows.append((names[module], type(module).__name__.lstrip("_"), look.output, size, ", ".join(row_remarks)))
    total = [f"{count(network.parameters()):,} parameters"]
    frozen = count(p for p in network.parameters() if not p.requires_grad)
    total += [f"{frozen:,} of them frozen"] if frozen else []
    total += [f"{unused:,} of them in layers that are not used"] if unused else []
    return "\n".join([*([title, ""] if title else []), *_columns([HEADINGS, *rows]), "", ", ".join(total)])


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Return the number of values in some parameters."""
    return sum(parameter.numel() for parameter in parameters)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Format rows as lines, each column as wide as its longest cell; numbers are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<", "<", "<", ">", "<"]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
