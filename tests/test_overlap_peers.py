"""The formulas of other libraries, written down from their documentation, through our options.

Where a peer divides by something else, the sum is divided here; what no option expresses has no
row (SMP's Tversky takes the power of the mean, kornia's counts every miss twice).
"""

import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl

SHAPE = (3, 4, 5, 6)
RNG = torch.Generator().manual_seed(11)
LOGITS = 2 * torch.randn(SHAPE, generator=RNG, dtype=torch.float64)
LABELS = torch.randint(0, 3, (3, 5, 6), generator=RNG)  # class 3 is absent
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
SPATIAL = (2, 3)


def one_hot(labels=LABELS):
    return F.one_hot(labels, 4).movedim(-1, 1).double()


def counts(p, t, dims):
    return (p * t).sum(dims), p.sum(dims), t.sum(dims)


def monai_dice(activation="softmax", batch=False, background=True, squared=False, jaccard=False):
    """monai.losses.DiceLoss: (B, C) values, or (C,) of the batch; smooth_nr = smooth_dr = 1e-5."""
    p, t = LOGITS.softmax(1) if activation == "softmax" else LOGITS.sigmoid(), one_hot()
    if not background:
        p, t = p[:, 1:], t[:, 1:]
    dims = (0, *SPATIAL) if batch else SPATIAL
    i, p_sum, t_sum = counts(p, t, dims)
    if squared:
        p_sum, t_sum = (p**2).sum(dims), (t**2).sum(dims)
    denominator = p_sum + t_sum
    if jaccard:
        denominator = 2 * (denominator - i)
    return 1 - (2 * i + 1e-5) / (denominator + 1e-5)


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
@pytest.mark.parametrize("squared", (False, True))
@pytest.mark.parametrize("background", (True, False))
@pytest.mark.parametrize("batch", (False, True))
@pytest.mark.parametrize("activation", ("softmax", "sigmoid"))
def test_monai_dice(activation, batch, background, squared, reduction):
    theirs = monai_dice(activation, batch, background, squared)
    ours = fl.dice_loss(
        LOGITS,
        LABELS,
        activation=activation,
        per="class" if batch else "sample_class",
        include_background=background,
        squared=squared,
        smooth=1e-5,
        reduction=reduction,
    )
    wanted = theirs if reduction == "none" else getattr(theirs, reduction)()
    torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("batch", (False, True))
def test_monai_jaccard(batch):
    """Its numerator and denominator are doubled."""
    per = "class" if batch else "sample_class"
    ours = fl.jaccard_loss(LOGITS, LABELS, activation="softmax", per=per, smooth=5e-6)
    torch.testing.assert_close(ours, monai_dice(batch=batch, jaccard=True).mean())


def test_monai_class_weights():
    """They multiply and nothing is divided by their sum."""
    ours = fl.dice_loss(
        LOGITS,
        LABELS,
        activation="softmax",
        per="sample_class",
        weight=WEIGHT,
        smooth=1e-5,
        reduction="sum",
    )
    torch.testing.assert_close(ours / 12, (monai_dice() * WEIGHT).mean())


@pytest.mark.parametrize("alpha, beta", ((0.5, 0.5), (0.3, 0.7), (1.0, 0.0)))
def test_monai_tversky(alpha, beta):
    p, t = LOGITS.softmax(1), one_hot()
    tp = (p * t).sum(SPATIAL)
    fp, fn = (p * (1 - t)).sum(SPATIAL), ((1 - p) * t).sum(SPATIAL)
    theirs = 1 - (tp + 1e-5) / (tp + alpha * fp + beta * fn + 1e-5)
    ours = fl.tversky_loss(
        LOGITS,
        LABELS,
        activation="softmax",
        per="sample_class",
        alpha=alpha,
        beta=beta,
        smooth=1e-5,
    )
    torch.testing.assert_close(ours, theirs.mean())


@pytest.mark.parametrize("empty", (False, True))
def test_keras(empty):
    """keras.losses.Dice and Tversky: probabilities, the whole batch one pool, 1e-7 below alone."""
    p, t = LOGITS.sigmoid(), one_hot()
    p, t = (0 * p, 0 * t) if empty else (p, t)
    i, p_sum, t_sum = (values.sum() for values in (p * t, p, t))
    smooth = (0.0, 1e-7)
    ours = fl.dice_loss(p, t, per="batch", smooth=smooth)
    torch.testing.assert_close(ours, 1 - 2 * i / (p_sum + t_sum + 1e-7))
    fp, fn = (p * (1 - t)).sum(), ((1 - p) * t).sum()
    ours = fl.tversky_loss(p, t, per="batch", smooth=smooth, alpha=0.3, beta=0.7)
    torch.testing.assert_close(ours, 1 - i / (i + 0.3 * fp + 0.7 * fn + 1e-7))


def test_kornia_dice():
    """micro: the classes of an image together; macro: their weighted mean."""
    p, t = LOGITS.softmax(1), one_hot()
    i, p_sum, t_sum = counts(p, t, (1, 2, 3))
    options = {"activation": "softmax", "smooth": (0.0, 1e-8)}
    ours = fl.dice_loss(LOGITS, LABELS, **options)
    torch.testing.assert_close(ours, (1 - 2 * i / (p_sum + t_sum + 1e-8)).mean())
    i, p_sum, t_sum = counts(p, t, SPATIAL)
    macro = 1 - 2 * i / (p_sum + t_sum + 1e-8)
    macro = (macro * WEIGHT).sum(1) / WEIGHT.sum()
    ours = fl.dice_loss(LOGITS, LABELS, per="sample_class", weight=WEIGHT, **options)
    torch.testing.assert_close(ours, macro.mean())


@pytest.mark.parametrize("ignore_index", (None, 2))
def test_segmentation_models_dice(ignore_index):
    """Per class over the batch; an absent class is 0 but stays in the mean; 2 s above and below;
    ignored positions drop out of p and t."""
    keep = torch.ones_like(LABELS) if ignore_index is None else LABELS != ignore_index
    keep = keep.unsqueeze(1)
    p, t = LOGITS.softmax(1) * keep, one_hot() * keep
    i, p_sum, t_sum = counts(p, t, (0, *SPATIAL))
    theirs = (1 - (2 * i + 2.0) / (p_sum + t_sum + 2.0)) * (t_sum > 0)
    ours = fl.dice_loss(
        LOGITS,
        LABELS,
        activation="softmax",
        per="class",
        smooth=2.0,
        skip_absent=True,
        reduction="sum",
        ignore_index=ignore_index,
    )
    torch.testing.assert_close(ours / 4, theirs.mean())


def test_mmsegmentation_dice():
    """Squares, eps twice below, nothing above; the naive form is the textbook's."""
    p, t = LOGITS.sigmoid().flatten(1), one_hot().flatten(1)
    i, squares = (p * t).sum(1), (p**2).sum(1) + (t**2).sum(1)
    options = {"activation": "sigmoid"}
    ours = fl.dice_loss(LOGITS, LABELS, squared=True, smooth=(0.0, 2e-3), **options)
    torch.testing.assert_close(ours, (1 - 2 * i / (squares + 2e-3)).mean())
    naive = 1 - (2 * i + 1e-3) / (p.sum(1) + t.sum(1) + 1e-3)
    ours = fl.dice_loss(LOGITS, LABELS, smooth=1e-3, **options)
    torch.testing.assert_close(ours, naive.mean())


def test_mmsegmentation_tversky():
    """Per sample and class: 1 - (TP + s)/(TP + 0.3 FP + 0.7 FN + s), s = 1, ignored ones masked."""
    keep = (LABELS != 1).unsqueeze(1)
    p, t = LOGITS.softmax(1), one_hot()
    tp = (p * t * keep).sum(SPATIAL)
    fp, fn = (p * (1 - t) * keep).sum(SPATIAL), ((1 - p) * t * keep).sum(SPATIAL)
    theirs = 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)
    ours = fl.tversky_loss(
        LOGITS,
        LABELS,
        activation="softmax",
        per="sample_class",
        alpha=0.3,
        beta=0.7,
        smooth=1.0,
        ignore_index=1,
    )
    torch.testing.assert_close(ours, theirs.mean())


def test_soft_dice_of_a_flattened_batch():
    """CoinCheung's: sigmoid, one row, s = 1, power q of p alone where t is 0 or 1."""
    p, t = LOGITS.sigmoid(), one_hot()
    for squared in (False, True):
        power = p**2 if squared else p
        theirs = 1 - (2 * (p * t).sum() + 1) / (power.sum() + t.sum() + 1)
        ours = fl.dice_loss(
            LOGITS, LABELS, activation="sigmoid", per="batch", smooth=1.0, squared=squared
        )
        torch.testing.assert_close(ours, theirs)


def test_masked_dice_of_half_an_image():
    """Where MONAI's MaskedDiceLoss of 1.5.0 lets masked logits come back as p = 1/2."""
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[:, :3] = True
    ours = fl.dice_loss(LOGITS, LABELS, activation="sigmoid", mask=mask)
    cropped = fl.dice_loss(LOGITS[..., :3], LABELS[..., :3], activation="sigmoid")
    torch.testing.assert_close(ours, cropped)
