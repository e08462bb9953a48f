"""What users come with, written as they write it, against the composition in plain PyTorch.

The letters are those of the project's list of examples; (d), (e) and (f) weight a cross-entropy
there and are checked here on the elementwise losses.
"""

import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl

SHAPE = (2, 3, 16, 20)
RNG = torch.Generator().manual_seed(3)


def rand(*shape):
    return torch.rand(shape, generator=RNG)


PREDICTION, TRUTH = 2 * rand(*SHAPE) - 1, 2 * rand(*SHAPE) - 1
PROBABILITY, BINARY = rand(2, 1, 16, 20), (rand(2, 1, 16, 20) > 0.5).float()
PHOTO = rand(*SHAPE)


def minmax(g):
    low, high = g.amin((1, 2, 3), keepdim=True), g.amax((1, 2, 3), keepdim=True)
    return (g - low) / (high - low + 1e-7)


def l1_where_the_target_is_positive(x, t):
    """(a)"""
    keep = t > 0
    return fl.l1_loss(x, t, mask=fl.target > 0), (x - t).abs()[keep].mean()


def mse_where_the_prediction_varies(x, t):
    """(b) averaged over the pixels that vary, channels summed"""
    keep = x.detach().var(1) > 0.1
    loss = fl.mse_loss(x, t, mask=fl.input.var() > 0.1, normalizer="positions")
    return loss, ((x - t) ** 2).sum(1)[keep].sum() / keep.sum()


def mse_in_the_centre(x, t):
    """(c)"""
    middle = (..., slice(4, 12), slice(5, 15))
    return fl.mse_loss(x, t, mask=fl.center(0.5)), F.mse_loss(x[middle], t[middle])


def weighted_by_edges(x, t):
    """(d)"""
    g = torch.zeros(2, 1, 16, 20)
    before = PHOTO[..., :-1, :-1]
    down, right = PHOTO[..., 1:, :-1], PHOTO[..., :-1, 1:]
    g[..., 1:, 1:] = ((before - down).abs() + (before - right).abs()).sum(1, keepdim=True)
    loss = fl.mse_loss(x, t, weight=fl.edges(PHOTO), normalizer="all")
    return loss, (minmax(g) * (x - t) ** 2).mean()


def weighted_by_sobel_edges(x, t):
    """(d) with the Sobel operator"""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(3, 1, 3, 3)
    padded = F.pad(PHOTO, [1] * 4, mode="replicate")
    gx, gy = F.conv2d(padded, kernel, groups=3), F.conv2d(padded, kernel.mT, groups=3)
    g = (gx**2 + gy**2).sqrt().sum(1, keepdim=True)
    loss = fl.mse_loss(x, t, weight=fl.edges(PHOTO, operator="sobel"), normalizer="all")
    return loss, (minmax(g) * (x - t) ** 2).mean()


def weighted_by_activations(x, t):
    """(e)"""
    features = rand(2, 8, 4, 5) - 0.5
    g = features.abs().sum(1, keepdim=True)
    g = F.interpolate(g, size=(16, 20), mode="bilinear", align_corners=False)
    loss = fl.l1_loss(x, t, weight=fl.activation(features), normalizer="all")
    return loss, (minmax(g) * (x - t).abs()).mean()


def weighted_by_dark_regions(x, t):
    """(f)"""
    dark = (PHOTO.mean(1, keepdim=True) < 0.4).float()
    weight = fl.normalized(fl.image(PHOTO).mean() < 0.4)
    loss = fl.mse_loss(x, t, weight=weight, normalizer="all")
    return loss, (minmax(dark) * (x - t) ** 2).mean()


def bce_on_a_mask_averaged_over_all_pixels(p, b):
    """(g)"""
    mask = rand(2, 16, 20) > 0.7
    loss = fl.binary_cross_entropy(p, b, mask=mask, normalizer="all")
    each = F.binary_cross_entropy(p, b, reduction="none")
    return loss, (each * mask.unsqueeze(1)).mean()


def mse_without_outliers(x, t):
    """(h)"""
    mask = (fl.target > -0.9) & (fl.target < 0.9)
    return fl.mse_loss(x, t, mask=mask), ((x - t) ** 2)[t.abs() < 0.9].mean()


def l1_with_mask_and_weights(x, t):
    """(i)"""
    mask, weight = rand(2, 16, 20) > 0.3, rand(*SHAPE)
    both = mask.unsqueeze(1) * weight
    loss = fl.l1_loss(x, t, mask=mask, weight=weight)
    return loss, ((x - t).abs() * both).sum() / both.sum()


def bce_in_a_bounding_box(p, b):
    """(j)"""
    window = (..., slice(3, 11), slice(2, 13))
    loss = fl.binary_cross_entropy(p, b, mask=fl.box(2, 3, 13, 11))
    return loss, F.binary_cross_entropy(p[window], b[window])


def bce_in_bounding_boxes_on_the_device(p, b):
    """(j) a box per sample, from a detector"""
    found = torch.tensor([[[2, 3, 13, 11]], [[-5, 8, 7, 99]]])
    parts = [p[0, 0, 3:11, 2:13].flatten(), p[1, 0, 8:, :7].flatten()]
    goals = [b[0, 0, 3:11, 2:13].flatten(), b[1, 0, 8:, :7].flatten()]
    loss = fl.binary_cross_entropy(p, b, mask=fl.boxes(found))
    return loss, F.binary_cross_entropy(torch.cat(parts), torch.cat(goals))


def bce_in_a_free_form_mask(p, b):
    """(k)"""
    drawn = rand(2, 1, 16, 20) > 0.6
    return fl.binary_cross_entropy(p, b, mask=drawn), F.binary_cross_entropy(p[drawn], b[drawn])


def bce_in_a_circle(p, b):
    """(k)"""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(20), indexing="ij")
    inside = ((x - 9) ** 2 + (y - 7) ** 2 <= 5**2).expand(2, 1, 16, 20)
    loss = fl.binary_cross_entropy(p, b, mask=fl.disk(9, 7, radius=5))
    return loss, F.binary_cross_entropy(p[inside], b[inside])


def mse_near_label_boundaries(x, t):
    """borders between labels count five times as much"""
    labels = (3 * rand(2, 16, 20)).long()
    padded = F.pad(labels.float().unsqueeze(1), [1] * 4, mode="replicate")
    largest = F.max_pool2d(padded, 3, stride=1)
    smallest = -F.max_pool2d(-padded, 3, stride=1)
    weight = torch.where(largest != smallest, 5.0, 1.0)
    loss = fl.mse_loss(x, t, weight=fl.boundary(labels, inside=5.0, outside=1.0))
    return loss, (weight * (x - t) ** 2).sum() / (weight * torch.ones_like(x)).sum()


@pytest.mark.parametrize(
    ("example", "input", "target"),
    [
        (l1_where_the_target_is_positive, PREDICTION, TRUTH),
        (mse_where_the_prediction_varies, PREDICTION, TRUTH),
        (mse_in_the_centre, PREDICTION, TRUTH),
        (weighted_by_edges, PREDICTION, TRUTH),
        (weighted_by_sobel_edges, PREDICTION, TRUTH),
        (weighted_by_activations, PREDICTION, TRUTH),
        (weighted_by_dark_regions, PREDICTION, TRUTH),
        (bce_on_a_mask_averaged_over_all_pixels, PROBABILITY, BINARY),
        (mse_without_outliers, PREDICTION, TRUTH),
        (l1_with_mask_and_weights, PREDICTION, TRUTH),
        (bce_in_a_bounding_box, PROBABILITY, BINARY),
        (bce_in_bounding_boxes_on_the_device, PROBABILITY, BINARY),
        (bce_in_a_free_form_mask, PROBABILITY, BINARY),
        (bce_in_a_circle, PROBABILITY, BINARY),
        (mse_near_label_boundaries, PREDICTION, TRUTH),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_example(example, input, target):
    input = input.clone().requires_grad_()
    loss, composed = example(input, target)
    torch.testing.assert_close(loss, composed, rtol=2e-6, atol=1e-8)
    assert 0 < loss < 10
    gradients = [torch.autograd.grad(value, input)[0] for value in (loss, composed)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)
