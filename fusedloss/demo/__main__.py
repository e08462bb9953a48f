"""`python -m fusedloss.demo`: trains the demo's networks, prints a table and writes pictures."""

import argparse
from pathlib import Path

import torch


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and runs the job."""
    parser = argparse.ArgumentParser("python -m fusedloss.demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=160, help="training steps (default 160)")
    parser.add_argument(
        "--crop", type=int, help="train on a square of so many pixels (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder of the pictures"
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help=f"here: {device}")
    options = parser.parse_args(arguments)
    try:
        from fusedloss.demo import stereo
    except ModuleNotFoundError as error:
        if error.name not in ("skimage", "PIL", "matplotlib", "tqdm", "numpy"):
            raise
        parser.exit(1, f"the demo needs {error.name}: pip install 'fusedloss[demo]'\n")
    print(stereo.run(options.out, options.steps, options.device, options.crop))
    print(f"pictures: {options.out}/")


if __name__ == "__main__":
    main()
