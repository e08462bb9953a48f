"""The demonstration: real training jobs, fused against the way they are written in eager PyTorch.

Run it with `python -m fusedloss.demo`. Each module has one job: `data` reads the pictures, `model`
holds the networks, `training` the loop, `measure` takes time and memory, `report` prints the table,
`pictures` draws, `stereo` is the job that puts them together, and `contact_sheet` shows every
region and weight source on a photograph.
"""
