"""Kinds of models that are trained. Package `training` has an objective for each."""
