"""Interpolated modified Kneser-Ney: the n-gram model to beat, in NumPy.

    python examples/ngram.py --order 7

Chen and Goodman, An empirical study of smoothing techniques for language modeling (1999), over the
256 bytes: each order takes a discount of its counts, by whether they are 1, 2 or more, and what it
takes goes to the next lower order, whose counts are of different left neighbours.
"""

import argparse

import numpy as np

import likelax as lx

SYMBOLS = 256  # so that a gram of up to eight bytes is one unsigned integer of 64 bits


class KneserNey:
    """p(byte | the order - 1 bytes before it), from the counts of one text.

    Args:
      tokens: the training text, `(length,)` uint8.
      order: the length of the longest grams counted, 1..8.
    """

    def __init__(self, tokens: np.ndarray, order: int):
        if not 1 <= order <= 8:
            raise ValueError(f"order is from 1 to 8, got {order}")
        self.order = order
        self.levels = []
        grams, counts = np.unique(codes(tokens, order), return_counts=True)
        for length in range(order, 0, -1):
            self.levels.append(Level(grams, counts))
            # Every gram that is there is one left neighbour of its suffix.
            suffixes = grams & np.uint64(SYMBOLS ** (length - 1) - 1)
            grams, counts = np.unique(suffixes, return_counts=True)
        self.levels.reverse()

    def prob(self, grams: np.ndarray) -> np.ndarray:
        """p(last byte | those before it) of codes of `order` bytes, `(...,)`."""
        result = np.full(grams.shape, 1 / SYMBOLS)
        for length, level in enumerate(self.levels, start=1):
            result = level.prob(grams & np.uint64(SYMBOLS**length - 1), result)
        return result

    def log_prob(self, tokens: np.ndarray, before: np.ndarray) -> np.ndarray:
        """log p of each token in nats, `(length,)`; `before` is the text up to them."""
        whole = np.concatenate([before[len(before) - (self.order - 1) :], tokens])
        return np.log(self.prob(codes(whole, self.order)))


class Level:
    """Grams of one length, sorted, and what is needed of each of their contexts."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray):
        self.grams = grams
        n1, n2, n3, n4 = (np.sum(counts == k) for k in (1, 2, 3, 4))
        y = n1 / max(1, n1 + 2 * n2)
        k, n = np.array([1, 2, 3]), np.array([n1, n2, n3])
        d = k - (k + 1) * y * np.array([n2, n3, n4]) / np.maximum(1, n)
        # Of too few grams the estimate is no discount; half of the count is.
        discount = np.where((d > 0) & (d <= k), d, k / 2)[np.minimum(counts, 3) - 1]
        self.contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
        self.total = np.add.reduceat(counts, first)
        self.left = np.add.reduceat(discount, first) / self.total
        self.kept = counts - discount

    def prob(self, grams: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """(count - discount) / total + (all discounts / total) lower(...), or `lower` where the
        context was never seen."""
        context, seen = find(self.contexts, grams >> np.uint64(8))
        gram, present = find(self.grams, grams)
        kept = np.where(present, self.kept[gram], 0) / self.total[context]
        return np.where(seen, kept + self.left[context] * lower, lower)


def codes(tokens: np.ndarray, length: int) -> np.ndarray:
    """Every run of `length` bytes as one integer, the last byte lowest."""
    result = np.zeros(len(tokens) - length + 1, np.uint64)
    for i in range(length):
        result = result << np.uint64(8) | tokens[i : len(tokens) - length + 1 + i]
    return result


def find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each is in a sorted table, and whether it is there."""
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return at, table[at] == wanted


def main(order: int, text: str | None) -> float:
    data = lx.datasets.text(text)
    print(f"{data}: {data.source}")
    model = KneserNey(data.train, order)
    bits = -model.log_prob(data.validation, data.train) / np.log(2)
    error = bits.std() / np.sqrt(len(bits))
    print(f"Kneser-Ney of order {order}: {bits.mean():.4f} ± {error:.4f} bits per byte")
    return float(bits.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--order", type=int, default=6)
    parser.add_argument("--text", help="shakespeare, tiny_shakespeare, python_docs or a file")
    options = parser.parse_args()
    main(options.order, options.text)
