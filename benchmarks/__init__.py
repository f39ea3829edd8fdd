"""How far the program is from the arithmetic that it has to do: `python -m benchmarks`."""
