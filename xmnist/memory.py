"""How a process gets its memory. Called before PyTorch is loaded."""

import ctypes
import os
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

LARGE, KEPT = 2**25, 2**30
"""Bytes: up to the first, which is the most that glibc takes, memory comes from the heap; up to the second, what is freed there
stays for the next batch. By default, memory goes back and comes again with every batch, page by page."""


def keep() -> None:
    """Use large pages, and keep freed memory for the next batch: an epoch on a CPU is faster, and bit for bit the same."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's switch for transparent huge pages
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        with suppress(OSError, AttributeError):  # another C library than glibc
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, LARGE)
            library.mallopt(M_TRIM_THRESHOLD, KEPT)
