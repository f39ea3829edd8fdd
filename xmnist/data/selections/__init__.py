"""The built-in selections of test images: the first ones, those with given numbers, or random ones."""
