"""Exact sizes of four models that everyone knows, as found before this project planned anything.

Tensor bytes in GiB and bits per weight, no importance matrix.
"""

from __future__ import annotations

import pytest

from ggufscope.recipes.plan import plan
from tests.shapes import WHOLES

MODELS = ("Llama-2-7B", "Mistral-7B", "Llama-3.1-8B", "Qwen2.5-7B")
TABLE = """
F16    12.552 / 16.0006  13.489 / 16.0006  14.958 / 16.0005  14.186 / 16.0007
Q8_0    6.669 /  8.5009   7.167 /  8.5009   7.947 /  8.5008   7.537 /  8.5010
Q6_K    5.149 /  6.5635   5.533 /  6.5634   6.136 /  6.5633   5.819 /  6.5636
Q5_K_M  4.454 /  5.6778   4.778 /  5.6679   5.332 /  5.7036   5.065 /  5.7134
Q4_K_M  3.800 /  4.8442   4.068 /  4.8250   4.575 /  4.8944   4.356 /  4.9132
Q4_K_S  3.591 /  4.5779   3.855 /  4.5731   4.363 /  4.6672   4.146 /  4.6765
Q4_0    3.562 /  4.5412   3.826 /  4.5383   4.334 /  4.6358   4.122 /  4.6488
IQ4_XS  3.396 /  4.3295   3.673 /  4.3566   4.169 /  4.4597   3.953 /  4.4586
Q3_K_M  3.071 /  3.9146   3.277 /  3.8866   3.736 /  3.9960   3.541 /  3.9944
Q2_K    2.358 /  3.0062   2.532 /  3.0032   2.953 /  3.1593   2.803 /  3.1619
Q2_K_S  2.160 /  2.7529   2.355 /  2.7929   2.776 /  2.9697   2.634 /  2.9709
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_sizes_to_every_printed_decimal(row: str) -> None:
    preset, *figures = row.replace("/", " ").split()
    for name, gib, bits in zip(MODELS, figures[::2], figures[1::2], strict=True):
        whole = WHOLES[name]()
        made = plan(whole.tensors(), whole.metadata, preset)
        assert f"{made.nbytes / 2**30:.3f}" == gib, name
        assert f"{made.bits_per_weight:.4f}" == bits, name
