"""The README's Python runs as written, from the top, in one namespace; what it prints is what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import likelax as lx

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.slow
def test_every_block_runs_and_prints_what_it_says():
    namespace, told = {}, io.StringIO()
    with contextlib.redirect_stdout(told):
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), namespace)
    promised = re.findall(r"print\(.*\)  # (.+)", "".join(BLOCKS))
    assert len(promised) == 2
    for line, promise in zip(told.getvalue().splitlines(), promised, strict=True):
        words, promised_words = (re.sub(r"[-+]?\d+\.\d+", "#", text) for text in (line, promise))
        assert words == promised_words
        numbers, given = (
            [float(n) for n in re.findall(r"[-+]?\d+\.\d+", text)] for text in (line, promise)
        )
        # Training repeats itself on one machine; on another, sums are added in another order.
        assert numbers == pytest.approx(given, abs=0.02)


def test_every_loss_in_the_table_is_there():
    table = README[README.index("## I have") : README.index("In each row the model is")]
    for name in set(re.findall(r"lx\.(\w+)", table)):
        assert hasattr(lx, name), name
