"""Explanation methods: called as `explainer(classifier, images, targets)`, they answer with heatmaps or images."""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xmnist.runtime import progress

if TYPE_CHECKING:
    from torch import Tensor

    from xmnist.explainers.base import Explainer

EXPLAINERS = {
    **{"random": "controls.Random", "sobel": "controls.Sobel", "otsu": "controls.Otsu"},
    **{"sensitivity": "gradients.Sensitivity", "saliency": "gradients.Saliency"},
    **{"input_x_gradient": "gradients.InputXGradient", "smoothgrad": "gradients.SmoothGrad"},
    **{"guided_backprop": "gradients.GuidedBackprop", "deconvolution": "gradients.Deconvolution"},
    **{"cam": "cam.Cam", "gradcam": "cam.GradCam", "guided_gradcam": "cam.GuidedGradCam"},
    **{"integrated_gradients": "gradients.IntegratedGradients", "deeplift": "gradients.DeepLift"},
    **{"deep_shap": "gradients.DeepShap", "gradient_shap": "gradients.GradientShap"},
    **{"lrp": "lrp.Lrp", "deep_taylor": "lrp.DeepTaylor", "occlusion": "gradients.Occlusion"},
    **{"activation_maximisation": "learned.ActivationMaximisation"},
    **{"cladec": "learned.ClaDec", "cladec_vae": "learned.ClaDec", "joint": "learned.InModel"},
    **{"refae": "learned.RefAE", "refvae": "learned.RefAE", "difference": "learned.Difference"},
}
"""Method -> where it is."""


@cache  # or every question would paint the line
def kind_of(method: str) -> type["Explainer"]:
    """The class of a method; importing it takes seconds, which a command that uses others should not wait for."""
    module, _, name = EXPLAINERS[method].partition(".")
    with progress.activity("loading explainers"):  # zennit and captum, seconds where nothing is compiled yet
        return getattr(import_module(f"xmnist.explainers.{module}"), name)


def build(method: str, *, name: str, seed: int, train: "Tensor", **options: Any) -> "Explainer":
    """An explainer; `train` (M, C, H, W) are the training images that its baselines and backgrounds come from."""
    return kind_of(method)(name=name, seed=seed, train=train, **options)
