"""Explanation methods: called as `explainer(classifier, images, targets)`, they answer with heatmaps or images."""
