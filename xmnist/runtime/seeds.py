"""Derived seeds. No torch."""

import hashlib


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, so that no two purposes of the same run draw the same numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:7], "big")
