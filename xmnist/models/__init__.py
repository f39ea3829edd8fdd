"""Networks: classifiers, decoders, joint models, and the building blocks of their layers."""
