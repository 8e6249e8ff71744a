"""Where should a network learn before it is asked to segment lesions and anatomy on brain MRI? The study's helpers."""

import os
from pathlib import Path

__version__ = "0.1.0"


def _same_sums_on_every_x86() -> None:
    """Have OpenBLAS take its AVX2 kernels where there is AVX-512, too, before numpy loads it.

    Those for AVX-512 round sums in another order, and aligning a scan to the template can make .04 mm of that: other lesions,
    and a run that cannot go on on another machine. Training does not slow down, as torch brings its own routines.
    """
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return
    flags = said.partition("\nflags")[2].partition("\n")[0].split()
    if {"avx2", "avx512f"} <= set(flags):
        os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")


_same_sums_on_every_x86()
