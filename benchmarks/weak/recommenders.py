"""Simple recommenders for what users have liked: each makes scores of all items for all users.

All take a matrix of zeros and ones, shape (U, V), and return scores of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

Matrix = NDArray[np.float32]


def popularity(seen: Matrix) -> Matrix:
    return np.broadcast_to(seen.sum(0), seen.shape).astype(np.float32)


def item_knn(seen: Matrix, neighbours: int) -> Matrix:
    """Cosine similarity of items, the nearest of each alone (Sarwar et al. 2001)."""
    return seen @ _nearest(_cosine(seen.T), neighbours)


def user_knn(seen: Matrix, neighbours: int) -> Matrix:
    """Cosine similarity of users (Herlocker et al. 1999)."""
    return _nearest(_cosine(seen), neighbours).T @ seen


def tfidf_knn(seen: Matrix, neighbours: int) -> Matrix:
    """`item_knn` where rare users of an item count for more."""
    weighted = seen * np.log(seen.shape[1] / np.maximum(seen.sum(1, keepdims=True), 1))
    return seen @ _nearest(_cosine(weighted.T), neighbours)


def bm25_knn(seen: Matrix, neighbours: int, k1: float, b: float) -> Matrix:
    """Items as documents of users under Okapi BM25 (Robertson and Zaragoza 2009)."""
    length = seen.sum(0)
    rare = np.log(seen.shape[1] / (1 + seen.sum(1)))[:, None]
    weighted = seen * rare * (k1 + 1) / (1 + k1 * (1 - b + b * length / length.mean()))
    return seen @ _nearest((weighted.T @ weighted).astype(np.float32), neighbours)


def als(seen: Matrix, factors: int, regularization: float, alpha: float) -> Matrix:
    """Weighted least squares by turns, 12 times (Hu, Koren and Volinsky 2008)."""
    random = np.random.default_rng(0)
    items = random.normal(0, 0.1, (seen.shape[1], factors)).astype(np.float32)
    for _ in range(12):
        users = _solved(seen, items, regularization, alpha)
        items = _solved(seen.T, users, regularization, alpha)
    return users @ items.T


def bpr(seen: Matrix, factors: int, rate: float, regularization: float) -> Matrix:
    """Liked items above drawn ones, 60 epochs of Adagrad (Rendle et al. 2009)."""
    random = np.random.default_rng(0)
    user, liked = np.nonzero(seen)
    parts = [random.normal(0, 0.1, (n, factors)).astype(np.float32) for n in seen.shape]
    squares = [np.full_like(part, 1e-2) for part in parts]
    for _ in range(60):
        other = random.integers(0, seen.shape[1], len(user))
        for at in np.array_split(random.permutation(len(user)), max(len(user) // 1024, 1)):
            at = at[seen[user[at], other[at]] == 0]
            u, i, j = parts[0][user[at]], parts[1][liked[at]], parts[1][other[at]]
            push = 1 / (1 + np.exp(((i - j) * u).sum(1, keepdims=True)))
            _step(parts, squares, 0, user[at], push * (i - j) - regularization * u, rate)
            _step(parts, squares, 1, liked[at], push * u - regularization * i, rate)
            _step(parts, squares, 1, other[at], -push * u - regularization * j, rate)
    return parts[0] @ parts[1].T


def logistic_mf(seen: Matrix, factors: int, regularization: float, alpha: float) -> Matrix:
    """Log-odds of being liked as inner products with biases, 60 rounds (Johnson 2014)."""
    random = np.random.default_rng(0)
    parts = [random.normal(0, 0.1, (n, factors + 2)).astype(np.float32) for n in seen.shape]
    parts[0][:, -1] = parts[1][:, -2] = 1  # what the other side's bias is multiplied by
    fixed = [-1, -2]
    squares = [np.full_like(part, 1e-2) for part in parts]
    for _ in range(60):
        for side, other in ((0, 1), (1, 0)):
            chance = 1 / (1 + np.exp(-parts[0] @ parts[1].T))
            error = alpha * seen - (1 + alpha * seen) * chance
            slope = (error if side == 0 else error.T) @ parts[other]
            slope -= regularization * parts[side]
            slope[:, fixed[side]] = 0
            squares[side] += slope**2
            parts[side] += 0.5 * slope / np.sqrt(squares[side])
    return parts[0] @ parts[1].T


def pure_svd(seen: Matrix, factors: int) -> Matrix:
    """The best approximation of that rank (Cremonesi, Koren and Turrin 2010)."""
    left, values, right = svds(seen, k=factors, rng=0)
    found: Matrix = (left * values) @ right
    return found


def ease(seen: Matrix, regularization: float) -> Matrix:
    """Each item from all others by ridge regression (Steck 2019)."""
    inverse = np.linalg.inv(seen.T @ seen + regularization * np.eye(seen.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return (seen @ weights).astype(np.float32)


#: Settings of each kind; the best on the first block is taken.
KINDS: Mapping[str, tuple[Callable[..., Matrix], Sequence[Mapping[str, float]]]] = {
    "popularity": (popularity, [{}]),
    "item_knn": (item_knn, [{"neighbours": n} for n in (20, 60, 200)]),
    "user_knn": (user_knn, [{"neighbours": n} for n in (20, 60, 200)]),
    "tfidf_knn": (tfidf_knn, [{"neighbours": n} for n in (20, 60, 200)]),
    "bm25_knn": (
        bm25_knn,
        [{"neighbours": n, "k1": k1, "b": 0.6} for n in (20, 100) for k1 in (0.6, 1.5)],
    ),
    "als": (
        als,
        [{"factors": f, "regularization": 1.0, "alpha": a} for f in (8, 16) for a in (1.0, 4.0)],
    ),
    "bpr": (bpr, [{"factors": 32, "rate": 0.1, "regularization": r} for r in (0.01, 0.05)]),
    "logistic_mf": (
        logistic_mf,
        [{"factors": f, "regularization": 2.0, "alpha": 2.0} for f in (6, 10)],
    ),
    "pure_svd": (pure_svd, [{"factors": n} for n in (8, 12, 25)]),
    "ease": (ease, [{"regularization": r} for r in (100.0, 300.0, 1000.0)]),
}


def _cosine(rows: Matrix) -> Matrix:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(norm, 1e-9)
    found: Matrix = unit @ unit.T
    return found


def _nearest(similarity: Matrix, neighbours: int) -> Matrix:
    """The largest entries of each column; nothing is near itself."""
    np.fill_diagonal(similarity, 0)
    if neighbours < len(similarity):
        edge = np.partition(similarity, -neighbours, axis=0)[-neighbours]
        similarity = np.where(similarity >= edge, similarity, np.float32(0))
    return similarity


def _solved(seen: Matrix, other: Matrix, regularization: float, alpha: float) -> Matrix:
    every = other.T @ other + regularization * np.eye(other.shape[1], dtype=np.float32)
    left = np.empty((len(seen), *every.shape), dtype=np.float32)
    right = np.empty((len(seen), len(every)), dtype=np.float32)
    for at, row in enumerate(seen):
        mine = other[row > 0]
        left[at] = every + alpha * mine.T @ mine
        right[at] = (1 + alpha) * mine.sum(0)
    return np.linalg.solve(left, right[:, :, None])[:, :, 0]


def _step(
    parts: list[Matrix],
    squares: list[Matrix],
    side: int,
    rows: NDArray[np.int64],
    slope: Matrix,
    rate: float,
) -> None:
    np.add.at(squares[side], rows, slope**2)
    np.add.at(parts[side], rows, rate * slope / np.sqrt(squares[side][rows]))
