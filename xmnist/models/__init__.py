"""Networks: classifiers, decoders, joint models, and what their layers are made of."""
