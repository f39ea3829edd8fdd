"""Classifiers whose decisions are explained: they take pixels in [0, 1] and return logits. One file a family."""
