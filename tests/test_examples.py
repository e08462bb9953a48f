"""What users come with, written as they write it, against the composition in plain PyTorch.

The letters are those of the project's list of examples; the README shows the calls as they stand
here. An example takes what it names out of `TENSORS`; its first argument gets a gradient.
"""

import inspect

import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl

SHAPE = (2, 3, 16, 20)
RNG = torch.Generator().manual_seed(3)


def rand(*shape):
    return torch.rand(shape, generator=RNG)


TENSORS = {
    "x": 2 * rand(*SHAPE) - 1,
    "t": 2 * rand(*SHAPE) - 1,
    "p": rand(2, 1, 16, 20),  # a probability of each pixel
    "b": (rand(2, 1, 16, 20) > 0.5).float(),
    "logits": 6 * rand(2, 5, 16, 20) - 3,
    "labels": (5 * rand(2, 4, 5)).long().repeat_interleave(4, 1).repeat_interleave(4, 2),
    "photo": rand(*SHAPE),
    "features": rand(2, 8, 4, 5) - 0.5,
    "valid": rand(2, 16, 20) > 0.3,
    "drawn": rand(2, 1, 16, 20) > 0.6,
    "importance": rand(*SHAPE),
    "tokens": 6 * rand(3, 12, 40) - 3,  # (N, T, V), as a language model has them
    "words": (40 * rand(3, 12)).long(),
    "counts": torch.tensor([12, 5, 8]),
    "found": torch.tensor([[[2, 3, 13, 11]], [[-5, 8, 7, 99]]]),
}


def minmax(g):
    low, high = g.amin((1, 2, 3), keepdim=True), g.amax((1, 2, 3), keepdim=True)
    return (g - low) / (high - low + 1e-7)


def differences(photo):
    g = torch.zeros(2, 1, 16, 20)
    before = photo[..., :-1, :-1]
    down, right = photo[..., 1:, :-1], photo[..., :-1, 1:]
    g[..., 1:, 1:] = ((before - down).abs() + (before - right).abs()).sum(1, keepdim=True)
    return minmax(g)


def weighted_cross_entropy(logits, labels, weight):
    return (weight * F.cross_entropy(logits, labels, reduction="none").unsqueeze(1)).mean()


def border_weight(labels):
    padded = F.pad(labels.float().unsqueeze(1), [1] * 4, mode="replicate")
    largest = F.max_pool2d(padded, 3, stride=1)
    smallest = -F.max_pool2d(-padded, 3, stride=1)
    return torch.where(largest != smallest, 5.0, 1.0)


def l1_where_the_target_is_positive(x, t):
    """(a)"""
    loss = fl.l1_loss(x, t, mask=fl.target > 0)
    return loss, (x - t).abs()[t > 0].mean()


def mse_where_the_prediction_varies(x, t):
    """(b) averaged over the pixels that vary, channels summed"""
    keep = x.detach().var(1) > 0.1
    loss = fl.mse_loss(x, t, mask=fl.input.var() > 0.1, normalizer="positions")
    return loss, ((x - t) ** 2).sum(1)[keep].sum() / keep.sum()


def mse_in_the_centre(x, t):
    """(c)"""
    middle = (..., slice(4, 12), slice(5, 15))
    loss = fl.mse_loss(x, t, mask=fl.center(0.5))
    return loss, F.mse_loss(x[middle], t[middle])


def cross_entropy_weighted_by_edges(logits, labels, photo):
    """(d)"""
    loss = fl.cross_entropy(logits, labels, weight_map=fl.edges(photo), normalizer="all")
    return loss, weighted_cross_entropy(logits, labels, differences(photo))


def mse_weighted_by_sobel_edges(x, t, photo):
    """(d) of an elementwise loss, with the other operator"""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(3, 1, 3, 3)
    padded = F.pad(photo, [1] * 4, mode="replicate")
    gx, gy = F.conv2d(padded, kernel, groups=3), F.conv2d(padded, kernel.mT, groups=3)
    g = (gx**2 + gy**2).sqrt().sum(1, keepdim=True)
    loss = fl.mse_loss(x, t, weight=fl.edges(photo, operator="sobel"), normalizer="all")
    return loss, (minmax(g) * (x - t) ** 2).mean()


def cross_entropy_weighted_by_activations(logits, labels, features):
    """(e)"""
    g = features.abs().sum(1, keepdim=True)
    g = F.interpolate(g, size=(16, 20), mode="bilinear", align_corners=False)
    loss = fl.cross_entropy(logits, labels, weight_map=fl.activation(features), normalizer="all")
    return loss, weighted_cross_entropy(logits, labels, minmax(g))


def cross_entropy_weighted_by_dark_regions(logits, labels, photo):
    """(f)"""
    map = minmax((photo.mean(1, keepdim=True) < 0.4).float())
    dark = fl.normalized(fl.image(photo).mean() < 0.4)
    loss = fl.cross_entropy(logits, labels, weight_map=dark, normalizer="all")
    return loss, weighted_cross_entropy(logits, labels, map)


def bce_on_a_mask_averaged_over_all_pixels(p, b, valid):
    """(g)"""
    loss = fl.binary_cross_entropy(p, b, mask=valid, normalizer="all")
    each = F.binary_cross_entropy(p, b, reduction="none")
    return loss, (each * valid.unsqueeze(1)).mean()


def mse_without_outliers(x, t):
    """(h)"""
    loss = fl.mse_loss(x, t, mask=(fl.target > -0.9) & (fl.target < 0.9))
    return loss, ((x - t) ** 2)[t.abs() < 0.9].mean()


def l1_with_mask_and_weights(x, t, valid, importance):
    """(i)"""
    both = valid.unsqueeze(1) * importance
    loss = fl.l1_loss(x, t, mask=valid, weight=importance)
    return loss, ((x - t).abs() * both).sum() / both.sum()


def bce_in_a_bounding_box(p, b):
    """(j)"""
    window = (..., slice(3, 11), slice(2, 13))
    loss = fl.binary_cross_entropy(p, b, mask=fl.box(2, 3, 13, 11))
    return loss, F.binary_cross_entropy(p[window], b[window])


def bce_in_bounding_boxes_on_the_device(p, b, found):
    """(j) a box per sample, from a detector"""
    parts = [p[0, 0, 3:11, 2:13].flatten(), p[1, 0, 8:, :7].flatten()]
    goals = [b[0, 0, 3:11, 2:13].flatten(), b[1, 0, 8:, :7].flatten()]
    loss = fl.binary_cross_entropy(p, b, mask=fl.boxes(found))
    return loss, F.binary_cross_entropy(torch.cat(parts), torch.cat(goals))


def bce_in_a_free_form_mask(p, b, drawn):
    """(k)"""
    loss = fl.binary_cross_entropy(p, b, mask=drawn)
    return loss, F.binary_cross_entropy(p[drawn], b[drawn])


def bce_in_a_circle(p, b):
    """(k)"""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(20), indexing="ij")
    inside = ((columns - 9) ** 2 + (rows - 7) ** 2 <= 5**2).expand(2, 1, 16, 20)
    loss = fl.binary_cross_entropy(p, b, mask=fl.disk(9, 7, radius=5))
    return loss, F.binary_cross_entropy(p[inside], b[inside])


def cross_entropy_with_heavy_borders(logits, labels):
    """borders between labels count five times as much"""
    weight = border_weight(labels)
    loss = fl.cross_entropy(logits, labels, weight_map=1 + 4 * fl.boundary())
    return loss, weighted_cross_entropy(logits, labels, weight) / weight.mean()


def mse_near_label_boundaries(x, t, labels):
    """the same of an elementwise loss"""
    weight = border_weight(labels)
    loss = fl.mse_loss(x, t, weight=fl.boundary(labels, inside=5.0, outside=1.0))
    return loss, (weight * (x - t) ** 2).sum() / (weight * torch.ones_like(x)).sum()


def cross_entropy_of_padded_tokens(tokens, words, counts):
    loss = fl.cross_entropy(tokens.movedim(-1, 1), words, mask=fl.lengths(counts))
    real = torch.arange(12) < counts[:, None]
    return loss, F.cross_entropy(tokens[real], words[real])


def cross_entropy_over_micro_batches(logits, labels):
    """Of which each gives its share: losses and gradients add up to those of the whole batch."""
    count = (labels != 0).sum()
    loss = 0
    for part, its_labels in zip(logits.split(1), labels.split(1), strict=True):
        loss += fl.cross_entropy(part, its_labels, ignore_index=0, normalizer=count)
    return loss, F.cross_entropy(logits, labels, ignore_index=0)


def dice_cross_entropy_as_monai(logits, labels):
    monai = dict(per="sample_class", smooth=1e-5, dice_weight=1.0, ce_weight=1.0)
    loss = fl.dice_cross_entropy_loss(logits, labels, **monai)
    p, t = logits.softmax(1), F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits)
    intersection, sizes = (p * t).sum((2, 3)), (p + t).sum((2, 3))
    dice = (1 - (2 * intersection + 1e-5) / (sizes + 1e-5)).mean()
    return loss, dice + F.cross_entropy(logits, labels)


EXAMPLES = (
    l1_where_the_target_is_positive,
    mse_where_the_prediction_varies,
    mse_in_the_centre,
    cross_entropy_weighted_by_edges,
    mse_weighted_by_sobel_edges,
    cross_entropy_weighted_by_activations,
    cross_entropy_weighted_by_dark_regions,
    bce_on_a_mask_averaged_over_all_pixels,
    mse_without_outliers,
    l1_with_mask_and_weights,
    bce_in_a_bounding_box,
    bce_in_bounding_boxes_on_the_device,
    bce_in_a_free_form_mask,
    bce_in_a_circle,
    cross_entropy_with_heavy_borders,
    mse_near_label_boundaries,
    cross_entropy_of_padded_tokens,
    cross_entropy_over_micro_batches,
    dice_cross_entropy_as_monai,
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__)
def test_example(example):
    first, *others = (TENSORS[name] for name in inspect.signature(example).parameters)
    first = first.clone().requires_grad_()
    loss, composed = example(first, *others)
    torch.testing.assert_close(loss, composed, rtol=2e-6, atol=1e-8)
    assert 0 < loss < 10
    gradients = [torch.autograd.grad(value, first)[0] for value in (loss, composed)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)
