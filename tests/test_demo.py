"""The demo: its data, its measurements, and short runs from the command line to the pictures."""

import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

for needed in ("skimage", "matplotlib", "tqdm"):
    pytest.importorskip(needed, reason="the extra fusedloss[demo] is not installed")

from PIL import Image  # noqa: E402

import fusedloss as fl  # noqa: E402
from fusedloss.demo import contact_sheet, data, labels, measure, report, retina, stereo  # noqa: E402
from fusedloss.demo.__main__ import main  # noqa: E402


@pytest.fixture(scope="module")
def pair():
    return data.motorcycle()


@pytest.fixture(scope="module")
def fundus():
    return data.retina()


def test_the_scene_is_in_the_wheel(pair):
    assert pair.left.shape == pair.right.shape == (1, 3, 500, 741)
    assert pair.disparity.shape == (1, 1, 500, 741)
    assert pair.disparity.isinf().sum() == 27_226
    assert 0.1 < pair.left.mean() < 0.9 and pair.left.min() >= 0 and pair.left.max() <= 1


def test_the_disparity_leads_from_the_left_picture_to_the_right(pair):
    columns = torch.arange(741) - pair.disparity[0, 0].round()
    seen = pair.disparity[0, 0].isfinite() & (columns >= 0)
    rows = torch.arange(500)[:, None].expand(500, 741)
    matched = pair.right[0][:, rows[seen], columns[seen].long()]
    there = (pair.left[0][:, seen] - matched).abs().mean()
    elsewhere = (pair.left[0][:, seen] - pair.right[0][:, seen]).abs().mean()
    assert there < 0.5 * elsewhere


def test_the_retina_is_in_the_wheel(fundus):
    assert fundus.photo.shape == (1, 3, 470, 470) and fundus.classes.shape == (1, 470, 470)
    assert 0.1 < fundus.photo.mean() < 0.9 and 0 <= fundus.photo.min() <= fundus.photo.max() <= 1
    outside = ~_field(fundus)
    assert fundus.photo.mean(1)[outside].quantile(0.85) < 0.1  # all but the rim is black
    assert fundus.classes[outside].eq(0).all()


def test_the_labels_are_what_they_say(fundus):
    field, green = _field(fundus), fundus.photo[:, 1]
    counts = torch.bincount(fundus.classes[field], minlength=3) / field.sum()
    assert counts.tolist() == pytest.approx([0.842, 0.144, 0.014], abs=0.002)
    around = torch.nn.functional.avg_pool2d(green, 21, stride=1, padding=10)
    vessels, disc = fundus.classes == labels.VESSEL, fundus.classes == labels.DISC
    assert (green < around)[vessels].float().mean() > 0.9
    assert green[disc].quantile(0.05) > green[field & ~disc].quantile(0.95)
    rows, columns = disc[0].nonzero().T
    assert (rows.max() - rows.min() < 80) and (columns.max() - columns.min() < 80)


def _field(fundus):
    x, y, radius = fundus.field
    return fl.region_mask(fl.disk(x, y, radius=radius), fundus.photo, fundus.photo)[:, 0]


@pytest.mark.parametrize("size", (64, 96, 300, 470))
def test_a_crop_of_the_retina_keeps_the_field_in_its_place(size, fundus):
    part = fundus.crop(size)
    assert part.photo.shape == (1, 3, size, size) and part.classes.shape == (1, size, size)
    assert part.classes.unique().tolist() == [0, 1, 2]
    top, left = (a - b for a, b in zip(fundus.field[1::-1], part.field[1::-1], strict=True))
    rows, columns = slice(int(top), int(top) + size), slice(int(left), int(left) + size)
    assert torch.equal(part.photo, fundus.photo[..., rows, columns])
    assert torch.equal(_field(part), _field(fundus)[..., rows, columns])


def _agree(ways, output):
    """All ways have the value and gradient of the first."""
    results = []
    for way in ways:
        leaf = output.clone().requires_grad_()
        value = way(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=2e-6, atol=0)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-5, atol=1e-11)
        assert torch.equal(gradient != 0, results[0][1] != 0)


def test_the_three_ways_of_stereo_agree(pair):
    output = 60 * torch.rand(pair.disparity.shape, generator=torch.Generator().manual_seed(0))
    ways = (stereo.fused, stereo.eager_index, stereo.eager_where)
    _agree([partial(way, disparity=pair.disparity) for way in ways], output)


def test_the_three_ways_of_the_retina_agree(fundus):
    task = retina.make_task(fundus)
    logits = torch.randn((1, 3, 470, 470), generator=torch.Generator().manual_seed(0))
    prepared = partial(retina.eager_prepared, made=retina.prepare(task))
    _agree([partial(way, task=task) for way in (retina.fused, retina.eager, prepared)], logits)


def test_rare_classes_weigh_more(fundus):
    task = retina.make_task(fundus)
    learned = fundus.classes[retina.learned_part(task, fundus)]
    shares = torch.bincount(learned) / learned.numel()
    torch.testing.assert_close(task.weights**2 * shares, torch.ones(3))


def test_dice_score():
    guess, truth = torch.tensor([0, 1, 1, 2, 1]), torch.tensor([0, 1, 0, 2, 1])
    where = torch.tensor([True, True, True, True, False])
    scores = [retina.dice_score(guess, truth, where, label) for label in (0, 1, 2, 3)]
    assert scores == pytest.approx([2 / 3, 2 / 3, 1.0, float("nan")], nan_ok=True)


def test_peak_bytes_counts_what_is_held_at_once():
    output = torch.zeros(1000)

    def one(x):  # the result's gradient, 4000 bytes, and the zeros for the sum's
        return x.sum()

    def three(x):
        return x.exp().exp().sum()

    assert 4_000 <= measure.peak_bytes(one, output) < 9_000
    assert 12_000 <= measure.peak_bytes(three, output) < 18_000


def test_peak_bytes_counts_a_gradient_in_memory_that_was_kept():
    output = torch.zeros(2 << 20)  # 8 MB
    target = torch.ones_like(output)

    def loss(x):
        return fl.mse_loss(x, target)

    assert measure.peak_bytes(loss, output) >= output.nbytes


def test_timing_leaves_threads_and_cores_as_they_were():
    before = torch.get_num_threads()
    times = measure.milliseconds({"sum": torch.sum}, torch.zeros(10), rounds=3)
    assert times["sum"] > 0 and torch.get_num_threads() == before


def test_table():
    rows = [
        report.Row("error", [0.5]),
        report.Row("curves", [None, 1e-6], "{:.0e}"),
        report.Row("ratio", [1.0, 12.5], "{:.1f}"),
    ]
    assert report.table("job", ["fused", "eager"], rows).splitlines() == [
        "job     fused  eager",
        "--------------------",
        "error   0.500      -",
        "curves      -  1e-06",
        "ratio     1.0   12.5",
        "--------------------",
    ]


# job, then per row: its two figures agree to this, and are at most that when the job has learned
ERRORS = {
    "stereo": {"final error, pixels": (0.05, 15), "pixels off by more than 3": (1.0, 99)},
    "retina": {"pixels of the wrong class": (0.1, 20)},
}
PICTURES = {
    "stereo": ("left", "disparity", "prediction", "error", "curves"),
    "retina": ("retina", "curves"),
}


def _figures(table):
    """The numbers in each line of a printed table, by its name."""
    return {
        line[:38].strip(): [float(f) for f in re.findall(r"\d+\.\d+(?:e[+-]\d+)?", line[38:])]
        for line in table.splitlines()
    }


def _check_pictures(folder, names):
    assert {path.stem for path in folder.glob("*.png")} == {*names}
    for name in names:
        path = folder / f"{name}.png"
        assert path.stat().st_size <= 300_000
        assert np.asarray(Image.open(path).convert("L")).std() > 10, f"{name}.png is blank"


@pytest.mark.parametrize("job", ("stereo", "retina"))
def test_a_short_run(job, tmp_path, capsys):
    short = ["--only", job, "--steps", "12", "--crop", "96", "--device", "cpu"]
    main([*short, "--out", str(tmp_path)])
    said = _figures(capsys.readouterr().out)
    for name, (apart, largest) in ERRORS[job].items():
        fused, eager = said[name]
        assert fused == pytest.approx(eager, abs=apart) and fused <= largest
    assert said["largest difference of the loss curves"][0] < {"stereo": 1e-2, "retina": 1e-5}[job]
    assert len(said["loss forward + backward, ms"]) == 3
    assert all(time > 0 for time in said["loss forward + backward, ms"])
    assert len(said["peak extra memory, MB"]) == 3
    if job == "stereo":
        assert said["peak extra memory, MB"][0] == min(said["peak extra memory, MB"])
    _check_pictures(tmp_path / job, PICTURES[job])


@pytest.mark.slow
def test_the_retina_is_learned(tmp_path, capsys):
    main(["--only", "retina", "--device", "cpu", "--out", str(tmp_path)])
    said = _figures(capsys.readouterr().out)
    assert said["largest difference of the loss curves"][0] < 1e-4
    for name, least in (
        ("Dice of the vessels", 0.88),
        ("in the part held out", 0.86),
        ("Dice of the optic disc", 0.88),
    ):
        assert min(said[name]) > least
        assert said[name][0] == pytest.approx(said[name][1], abs=2e-3)


def test_the_sheet_of_expressions(tmp_path):
    main(["--only", "expressions", "--device", "cpu", "--out", str(tmp_path)])
    _check_pictures(tmp_path, ["expressions"])


TERMS = ("red", "fl.target > ", "fl.target.isfinite()", "fl.input.var() > ", "fl.image(photo)")
TERMS += ("fl.center(", "fl.box(", "fl.boxes(found)", "fl.disk(", "fl.disks(wheels)")
TERMS += ("fl.keypoints(lamps", "fl.lengths(lengths)")
SOURCES = ("fl.edges(photo)", 'operator="sobel")', "fl.activation(features)", "fl.normalized(")
SOURCES += ("fl.boundary(near, radius=3)",)


@pytest.mark.parametrize(
    ("shown", "starts", "operators"),
    [(contact_sheet.regions, TERMS, "&|~"), (contact_sheet.sources, SOURCES, "+-*/")],
    ids=("regions", "sources"),
)
def test_the_sheet_shows_every_expression(shown, starts, operators, pair):
    titles = [term.title for term in shown(pair)]
    assert len({*titles}) == len(titles)
    for start, title in zip(starts, titles, strict=False):
        assert start in title, title
    assert all(operator in "".join(titles[len(starts) :]) for operator in operators)
    assert not any("tensor(" in title for title in titles)


def test_every_tile_of_the_sheet_shows_something(pair, fundus):
    for term in contact_sheet.regions(pair) + contact_sheet.label_regions(fundus):
        share = fl.region_mask(term.expression, term.input, term.target).double().mean()
        assert 0.01 < share < 0.95, term.title
    for term in contact_sheet.sources(pair) + contact_sheet.label_sources(fundus):
        weights = fl.weight_map(term.expression, term.input, term.target)
        assert weights.isfinite().all() and weights.std() > 0.01, term.title


# (arguments, what the one line says)
REFUSED = (
    (["--steps", "0"], "--steps must be at least 1, got 0"),
    (["--crop", "471"], "--crop must be from 32 to 470 pixels, got 471"),
    (["--crop", "0"], "--crop must be from 32 to 470 pixels, got 0"),
    (["--device", "cuda:99"], "--device cuda:99: torch"),
    (["--device", "tpu"], "--device must be cpu or cuda, got tpu"),
    (["--device", "meta"], "--device must be cpu or cuda, got meta"),
    (["--out", __file__], "--out must be a folder"),
)


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=lambda value: str(value[0:2]))
def test_bad_arguments_are_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert printed.startswith("python -m fusedloss.demo: ") and said in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("module", ("skimage", "matplotlib", "tqdm"))
def test_a_missing_extra_is_named(module):
    code = f"import sys; sys.modules[{module!r}] = None; import fusedloss.demo.__main__ as demo; "
    command = [sys.executable, "-c", code + "demo.main(['--steps', '1'])"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    said = f"python -m fusedloss.demo: {module} is missing: pip install 'fusedloss[demo]'"
    assert refused.stderr.strip() == said
