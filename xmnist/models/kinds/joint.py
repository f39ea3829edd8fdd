"""The joint explainer-classifier, trained in three phases. No torch."""

from typing import Annotated, Any

from xmnist.config.kinds import ModelDeclaration
from xmnist.config.rules import choice, list_of, maybe, number, text, three, whole
from xmnist.models.kinds.base import HEATMAPS, model


@model(
    "joint",
    title="joint model",
    alpha=three(number(0, 1)),
    weights={"beta": number(0, 1), "gamma": number(0)},
    part="joint",
    explainers=("joint", *HEATMAPS),
    main=("accuracy", "explanation_loss"),
    explained=True,
    basis="joint",
    own_map=True,
    phases=3,
    named=("loss",),
)
class JointModel(ModelDeclaration):
    """A classifier and an explainer whose attribution map multiplies the classifier's features."""

    loss: Annotated[str, choice("unsupervised", "hybrid"), "hybrid also keeps the map inside the data set's masks"]
    width: Annotated[int, whole(1, 1024), "channels of the U-Net at full resolution"]
    depth: Annotated[int, whole(1, 8), "how often it halves the image"]
    init_bias: Annotated[float, number(), "the map starts around tanh of it"]
    gates: Annotated[
        list[str] | None,
        maybe(list_of(text("a layer of the classifier, by its dotted path"))),
        "layers whose feature maps the map multiplies; null: the classifier's own",
    ]

    @property
    def needs_masks(self) -> str:
        return "model.loss=hybrid" if self.loss == "hybrid" else ""

    def heading(self, layer: str) -> str:
        return f"Joint model, {self.loss}"

    def before(self, layer: str) -> str:
        return f"{self.loss} joint model, "

    def layer_of(self, layer: str, fixed: bool) -> str:
        return f"{'joint.' if fixed else ''}classifier.{layer}"

    def around(self, classifier: Any, shape: tuple[int, int, int]) -> Any:
        from xmnist.models import joint

        return joint.Joint(classifier, joint.Explainer(shape, self.width, self.depth, self.init_bias), self.gates)

    def check_network(self, network: Any, example: Any) -> None:
        from xmnist.models import joint

        joint.check_gates(network, example)
