"""One name, colour and line for each method and model, wherever it is drawn. No torch, no matplotlib."""

import hashlib
from dataclasses import dataclass

from xmnist.schema import CONTROLS, METHODS
from xmnist.titles import explainer_title

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7a4fbf")
"""Told apart by colour-blind eyes too."""

Dash = str | tuple[int, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
QUIET = "#8c8c8c"
"""What is only compared with."""

ORDER = (
    *("saliency", "integrated_gradients", "gradcam", "lrp", "refae", "cladec", "deep_shap", "joint"),
    *("smoothgrad", "deeplift", "guided_gradcam", "occlusion", "refvae", "cladec_vae", "gradient_shap", "deep_taylor"),
)
"""Methods that are often drawn together; the first eight have colours of their own."""

_ALL = (*ORDER, *(name for name in METHODS if name not in (*ORDER, *CONTROLS)))


@dataclass(frozen=True)
class Style:
    """How a method is called and drawn; `quiet` if it is only compared with."""

    title: str
    colour: str
    dash: Dash
    quiet: bool = False


def style(name: str, variant: int = 0) -> Style:
    """The style of a method or model by its name, such as `lrp` or `cladec,alpha=0.25`.

    Args:
        variant: the how-manieth of several with the same method, which differ in their dashes.
    """
    method, title = name.split(",")[0], explainer_title(name)
    if method in (*CONTROLS, "classifier"):
        place = (*CONTROLS, "classifier").index(method)
        return Style(title, QUIET, (0, (1 + 2 * place, 1.2)), quiet=True)
    if method in _ALL:
        place = _ALL.index(method)
    else:  # a user's own name: the same style in every picture
        place = int(hashlib.sha256(method.encode()).hexdigest(), 16) % (len(COLOURS) * len(DASHES))
    dash = DASHES[(place // len(COLOURS) + variant) % len(DASHES)]
    return Style(title, COLOURS[place % len(COLOURS)], dash)
