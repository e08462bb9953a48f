"""The demo: its data, its measurements, and a short run from the command line to the pictures."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

for needed in ("skimage", "matplotlib", "tqdm"):
    pytest.importorskip(needed, reason="the extra fusedloss[demo] is not installed")

from PIL import Image  # noqa: E402

import fusedloss as fl  # noqa: E402
from fusedloss.demo import contact_sheet, data, measure, report, stereo  # noqa: E402
from fusedloss.demo.__main__ import main  # noqa: E402


@pytest.fixture(scope="module")
def pair():
    return data.motorcycle()


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


def test_the_three_ways_agree(pair):
    generator = torch.Generator().manual_seed(0)
    output = 60 * torch.rand(pair.disparity.shape, generator=generator)
    results = []
    for way in (stereo.fused, stereo.eager_index, stereo.eager_where):
        leaf = output.clone().requires_grad_()
        value = way(leaf, pair.disparity)
        value.backward()
        results.append((value.detach(), leaf.grad))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=2e-6, atol=0)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-5, atol=0)


def test_peak_bytes_counts_what_is_held_at_once():
    output = torch.zeros(1000)

    def one(x):  # the result's gradient, 4000 bytes, and the zeros for the sum's
        return x.sum()

    def three(x):
        return x.exp().exp().sum()

    assert 4_000 <= measure.peak_bytes(one, output) < 9_000
    assert 12_000 <= measure.peak_bytes(three, output) < 18_000


def test_timing_leaves_threads_and_cores_as_they_were():
    before = torch.get_num_threads()
    times = measure.milliseconds({"sum": torch.sum}, torch.zeros(10), rounds=3)
    assert times["sum"] > 0 and torch.get_num_threads() == before


def test_table():
    rows = [report.Row("error", [0.5, None]), report.Row("ratio", [1.0, 12.5], "{:.1f}")]
    assert report.table("job", ["fused", "eager"], rows).splitlines() == [
        "job    fused  eager",
        "-------------------",
        "error  0.500      -",
        "ratio    1.0   12.5",
        "-------------------",
    ]


def test_a_short_run(tmp_path, capsys):
    main(["--steps", "12", "--crop", "96", "--out", str(tmp_path), "--device", "cpu"])
    said = capsys.readouterr().out
    figures = {
        line[:38].strip(): re.findall(r"[\d.]+(?:e-?\d+)?", line[38:]) for line in said.splitlines()
    }
    fused, eager = map(float, figures["final error, pixels"][:2])
    assert fused == pytest.approx(eager, abs=0.05)
    assert fused < 15  # untrained it is about 16
    assert float(figures["largest difference of the loss curves"][-1]) < 1e-2
    times = figures["loss forward + backward, ms"]
    assert len(times) == 3 and all(float(time) > 0 for time in times)
    memory = [float(peak) for peak in figures["peak extra memory, MB"]]
    assert memory[0] <= min(memory[1:])
    for name in ("left", "disparity", "prediction", "error", "curves", "expressions"):
        path = tmp_path / f"{name}.png"
        assert path.stat().st_size < 300_000
        assert np.asarray(Image.open(path).convert("L")).std() > 10, f"{name}.png is blank"


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


def test_every_tile_of_the_sheet_shows_something(pair):
    for term in contact_sheet.regions(pair):
        share = fl.region_mask(term.expression, term.input, term.target).double().mean()
        assert 0.01 < share < 0.95, term.title
    for term in contact_sheet.sources(pair):
        weights = fl.weight_map(term.expression, term.input, term.target)
        assert weights.isfinite().all() and weights.std() > 0.01, term.title


# (arguments, what the one line says)
REFUSED = (
    (["--steps", "0"], "--steps must be at least 1, got 0"),
    (["--crop", "501"], "--crop must be from 32 to 500 pixels, got 501"),
    (["--crop", "0"], "--crop must be from 32 to 500 pixels, got 0"),
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
