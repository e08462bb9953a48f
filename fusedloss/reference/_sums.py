"""Sums over all elements, and their mirror image, that do not depend on the number of threads.

torch splits a long sum to a single number among its threads, so its last bits change with them; the
same is true of sums along a slow dim of memory. Rows of fixed length that lie in one piece are each
summed by one thread. So sums are taken in such rows, and a single number that is broadcast goes to
the elements in such rows, since the gradient comes back the same way.
"""

from torch import Tensor

_ROW = 4096


def row_sums(rows: Tensor) -> Tensor:
    """(S, M) -> (S,)."""
    count = rows.shape[1]
    if count <= _ROW:
        return rows.sum(1)
    whole = count // _ROW * _ROW
    pieces = rows[:, :whole].reshape(-1, count // _ROW, _ROW).sum(2)
    return row_sums(pieces) + rows[:, whole:].sum(1)


def total(values: Tensor, shape, by_sample: bool) -> Tensor:
    """The sum of `values` broadcast to `shape`: () or, `by_sample`, (N,).

    A tensor of fewer than two dims is one sample. Dims that are broadcast are counted, not walked.
    """
    samples = shape[0] if by_sample and len(shape) >= 2 else 1
    kept = 1 if len(shape) >= 2 and by_sample else 0
    repeats = 1
    for size, full in zip(values.shape[kept:], shape[kept:], strict=True):
        if size == 1:
            repeats = repeats * full
    own = values.shape[0] if kept else 1
    count = 1
    for size in values.shape[kept:]:
        count = count * size
    sums = row_sums(values.reshape(own, count)) * repeats
    return sums.expand(samples) if by_sample else sums.reshape(())


def spread(values: Tensor, shape) -> Tensor:
    """A tensor of one element broadcast to `shape`, a view; others as they are."""
    count = 1
    for size in shape:
        count = count * size
    if values.numel() != 1 or count <= _ROW or not values.requires_grad:
        return values
    rows = (count + _ROW - 1) // _ROW
    column = spread(values.reshape(1), (rows,)).expand(rows)
    return column.unsqueeze(1).expand(rows, _ROW).reshape(-1)[:count].reshape(shape)
