"""`python -m fusedloss.demo`: trains the demo's networks, prints their tables, writes pictures."""

import argparse
from pathlib import Path

import torch

SMALLEST, LARGEST = 32, 470  # squares that the networks take and that the pictures have
PARTS = ("stereo", "retina", "expressions")


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, runs the jobs and draws the sheet of expressions."""
    parser = argparse.ArgumentParser("python -m fusedloss.demo", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part of it (default: all)")
    parser.add_argument("--steps", type=int, help="training steps (default: what each job needs)")
    parser.add_argument(
        "--crop", type=int, help="train on a square of so many pixels (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder of the pictures"
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"here: {device}")
    options = parser.parse_args(arguments)
    problem = _problem(options)
    if problem:
        parser.exit(2, f"{parser.prog}: {problem}\n")
    try:
        from fusedloss.demo import contact_sheet, data, retina, stereo
    except ModuleNotFoundError as error:
        if error.name not in ("skimage", "PIL", "matplotlib", "tqdm", "numpy"):
            raise
        parser.exit(2, f"{parser.prog}: {error.name} is missing: pip install 'fusedloss[demo]'\n")
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = PARTS if options.only is None else (options.only,)
    for name, job in (("stereo", stereo), ("retina", retina)):
        if name in wanted:
            steps = options.steps or job.STEPS
            print(job.run(options.out / name, steps, options.device, options.crop), end="\n\n")
    if "expressions" in wanted:
        scenes = (scene.to(options.device) for scene in (data.motorcycle(), data.retina()))
        contact_sheet.draw(options.out / "expressions.png", *scenes)
    print(f"pictures: {options.out}/")


def _problem(options) -> str | None:
    """What is wrong with the options, in one line."""
    if options.steps is not None and options.steps < 1:
        return f"--steps must be at least 1, got {options.steps}"
    if options.crop is not None and not SMALLEST <= options.crop <= LARGEST:
        return f"--crop must be from {SMALLEST} to {LARGEST} pixels, got {options.crop}"
    try:
        device = torch.device(options.device)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        return f"--device must be cpu or cuda, got {options.device}"
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return f"--device {options.device}: torch {torch.__version__} finds no such GPU here"
    if options.out.exists() and not options.out.is_dir():
        return f"--out must be a folder, got {options.out}"
    return None


if __name__ == "__main__":
    main()
