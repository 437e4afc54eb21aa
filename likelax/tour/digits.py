"""Handwritten digits: a classifier is a Categorical likelihood."""

from __future__ import annotations

import numpy as np

from likelax import datasets
from likelax.distributions import Categorical
from likelax.heads import Head, HeadLike, learned
from likelax.metrics import perplexity
from likelax.tour.section import Section, Settings, split_of, train_row

HEADS: dict[str, HeadLike] = {
    "class frequencies only": Head(Categorical, num_categories=10, logits=learned()),
    "Categorical": Head(Categorical, num_categories=10),
}


def section(settings: Settings) -> Section:
    """A classifier against one that does not look at the image."""
    data = datasets.digits().standardized()
    rows = [
        train_row(name, head, data, settings, steps=400, size=128, hidden=64, decay=0.3)
        for name, head in HEADS.items()
    ]
    best = rows[-1]
    dist = best.model.predict(best.params, data.test.input, state=best.state)
    accuracy = np.mean(np.asarray(dist.mode()) == data.test.target)
    notes = [
        f"accuracy {accuracy:.1%}; as hard as guessing among "
        f"{float(perplexity(best.held_out)):.2f} classes"
    ]
    return Section("Classes: which digit an 8x8 image shows", split_of(data), rows, notes)
