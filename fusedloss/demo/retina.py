"""The retina job: find the vessels and the optic disc in a photograph of the back of an eye.

Three classes of very different size, whose borders matter most, in a round field of view of which a
part is held out: class weights, a weight map and a region in one loss.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss.demo import comparison, data, labels, pictures, report
from fusedloss.demo.model import VesselNet

STEPS = 80
REACH, BORDER = 1, 3.0  # a pixel so near to another class counts so many times
COLOURS = {"retina": "#26262e", "vessel": "#e8604c", "optic disc": "#f9dc6b"}
MISTAKES = {"right": "#26262e", "missed": "#3fa7f5", "too much": "#ffb000"}
NOTES = """\
eager: makes weight map (by max-pooling), mask and one-hot labels in every call, as the fused loss
does; eager, prepared: is given them."""


class Task(NamedTuple):
    """What is to be learned, and what counts how much.

    classes: (1, H, W) labels. weights: (C,). field: x, y and radius of the field of view.
    held_out: the box x1, y1, x2, y2 in it that is kept for judging the result.
    """

    classes: torch.Tensor
    weights: torch.Tensor
    field: tuple[float, float, float]
    held_out: tuple[int, int, int, int]

    @property
    def region(self):
        """Where the network learns."""
        x, y, radius = self.field
        return fl.disk(x, y, radius=radius) & ~fl.box(*self.held_out)

    @property
    def borders(self):
        """How much every pixel counts."""
        return fl.boundary(radius=REACH, inside=BORDER, outside=1.0)


class Prepared(NamedTuple):
    """The same as tensors: (1, C, H, W) labels, (1, H, W) map and mask."""

    one_hot: torch.Tensor
    weight_map: torch.Tensor
    mask: torch.Tensor


def fused(logits: torch.Tensor, task: Task) -> torch.Tensor:
    """One call; map and mask are rules, and the labels stay labels."""
    return fl.dice_cross_entropy_loss(
        logits,
        task.classes,
        per="class",
        weight=task.weights,
        weight_map=task.borders,
        mask=task.region,
    )


def eager(logits: torch.Tensor, task: Task) -> torch.Tensor:
    """The usual way, all of it in the loss."""
    return eager_prepared(logits, task, prepare(task))


def eager_prepared(logits: torch.Tensor, task: Task, made: Prepared) -> torch.Tensor:
    """The usual way: soft counts for Dice, cross-entropy per pixel, each times map and mask."""
    counts = made.weight_map * made.mask
    p = logits.softmax(1) * counts.unsqueeze(1)
    t = made.one_hot * counts.unsqueeze(1)
    intersection = (p * made.one_hot).sum((0, 2, 3))
    dice = 1 - (2 * intersection + 1e-6) / (p.sum((0, 2, 3)) + t.sum((0, 2, 3)) + 1e-6)
    losses = F.cross_entropy(logits, task.classes, task.weights, reduction="none")
    whole = (task.weights[task.classes] * counts).sum()
    return 0.5 * dice.mean() + 0.5 * (losses * counts).sum() / whole


def prepare(task: Task) -> Prepared:
    """Labels as one-hot, the map by max-pooling of labels, the mask from coordinates."""
    one_hot = F.one_hot(task.classes, len(task.weights)).permute(0, 3, 1, 2).float()
    numbers = task.classes.float()
    highest = F.max_pool2d(numbers, 2 * REACH + 1, stride=1, padding=REACH)
    lowest = -F.max_pool2d(-numbers, 2 * REACH + 1, stride=1, padding=REACH)
    weight_map = torch.where(highest != lowest, BORDER, 1.0)
    height, width = numbers.shape[1:]
    rows = torch.arange(height, device=numbers.device)[:, None]
    columns = torch.arange(width, device=numbers.device)
    x, y, radius = task.field
    x1, y1, x2, y2 = task.held_out
    boxed = (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)
    mask = ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2) & ~boxed
    return Prepared(one_hot, weight_map, mask[None].float())


def make_task(fundus: data.Fundus) -> Task:
    """Holds a box below the centre out, and weighs each class by the root of its rarity."""
    height, width = fundus.classes.shape[1:]
    held_out = (int(0.55 * width), int(0.62 * height), int(0.83 * width), int(0.9 * height))
    ones = torch.ones(len(labels.CLASSES), device=fundus.photo.device)
    task = Task(fundus.classes, ones, fundus.field, held_out)
    learned = fundus.classes[learned_part(task, fundus)]
    counts = torch.bincount(learned, minlength=len(labels.CLASSES)).clamp(min=1)
    return task._replace(weights=(counts.sum() / counts).sqrt())


def learned_part(task: Task, fundus: data.Fundus) -> torch.Tensor:
    """The region as a (1, H, W) tensor, for counting and drawing; the loss makes none."""
    return fl.region_mask(task.region, fundus.photo, fundus.photo)[:, 0]


def run(out: Path, steps: int, device: str, crop: int | None = None) -> str:
    """Trains twice, writes the pictures into `out` and returns the table."""
    fundus = data.retina()
    fundus = (fundus.crop(crop) if crop else fundus).to(device)
    task = make_task(fundus)
    job = comparison.Job(
        "retina, Dice + cross-entropy",
        partial(VesselNet, len(labels.CLASSES)),
        (fundus.photo,),
        {
            "fused": partial(fused, task=task),
            "eager": partial(eager, task=task),
            "eager, prepared": partial(eager_prepared, task=task, made=prepare(task)),
        },
        NOTES,
        learning_rate=7e-3,
    )
    runs = comparison.train_both(job, steps)
    text = comparison.table(job, runs, _scores(runs, task, fundus))
    _draw(out, runs, task, fundus)
    return text


def dice_score(guess: torch.Tensor, truth: torch.Tensor, where: torch.Tensor, label: int) -> float:
    """2 |A & B| / (|A| + |B|) of the pixels that have the label in either, NaN if none has."""
    found, real = (guess == label) & where, (truth == label) & where
    return (2 * (found & real).sum() / (found.sum() + real.sum())).item()


def _scores(runs, task, fundus):
    learned = learned_part(task, fundus)
    x1, y1, x2, y2 = task.held_out
    kept = torch.zeros_like(learned)
    kept[:, y1:y2, x1:x2] = True
    guesses = [run.output.argmax(1) for run in runs.values()]
    wrong = [(g != task.classes)[learned].float().mean().item() for g in guesses]

    def score(label, where):
        return [dice_score(guess, task.classes, where, label) for guess in guesses]

    return [
        report.Row("pixels of the wrong class", wrong, "{:.2%}"),
        report.Row("Dice of the vessels", score(labels.VESSEL, learned)),
        report.Row("  in the part held out", score(labels.VESSEL, kept)),
        report.Row("Dice of the optic disc", score(labels.DISC, learned)),
    ]


def _draw(out, runs, task, fundus):
    out.mkdir(parents=True, exist_ok=True)
    logits = runs["fused"].output
    photo = fundus.photo[0].permute(1, 2, 0).cpu().numpy()
    truth, guess = task.classes[0].cpu().numpy(), logits.argmax(1)[0].cpu().numpy()
    weights = fl.weight_map(task.borders, logits, task.classes)[0, 0].cpu().numpy()
    learned = learned_part(task, fundus)[0].cpu().numpy()
    x, y, radius = task.field
    field = fl.region_mask(fl.disk(x, y, radius=radius), fundus.photo, fundus.photo)
    field = field[0, 0].cpu().numpy()
    mistakes = np.where(guess == truth, 0, np.where(truth != 0, 1, 2))
    share = (mistakes != 0)[learned].mean()
    classes, kinds = list(COLOURS.values()), list(MISTAKES.values())
    score = dice_score(logits.argmax(1), task.classes, learned_part(task, fundus), labels.VESSEL)
    tiles = [
        pictures.Tile("input: a photograph", photo),
        pictures.Tile("labels, by classical filters", pictures.painted(truth, classes), field),
        pictures.Tile(f"mask={task.region}", photo, learned),
        pictures.Tile(f"weight_map={task.borders}", weights, field),
        pictures.Tile(
            f"prediction, Dice of vessels {score:.2f}",
            pictures.painted(guess, classes),
            field,
            task.held_out,
        ),
        pictures.Tile(
            f"mistakes, {share:.1%} of the pixels",
            pictures.painted(mistakes, kinds),
            field,
            task.held_out,
        ),
    ]
    steps = len(runs["fused"].losses)
    title = f"{steps} steps of dice_cross_entropy_loss; grey: takes no part; dashed: held out"
    key = {**COLOURS, **{kind: MISTAKES[kind] for kind in ("missed", "too much")}}
    pictures.sheet(out / "retina.png", title, tiles, columns=3, size=(3.3, 3.5), key=key)
    losses = {name: result.losses for name, result in runs.items()}
    pictures.curves(out / "curves.png", losses, "training loss, same seed", "Dice + CE")
