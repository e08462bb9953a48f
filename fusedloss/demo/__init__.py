"""The demonstration: real training jobs, fused against the way they are written in eager PyTorch.

Run it with `python -m fusedloss.demo`. `stereo` and `retina` are the jobs; `contact_sheet` shows
every region and weight source. What they share: `data` reads the pictures and `labels` labels one,
`model` holds the networks, `training` the loop, `measure` takes time and memory, `report` prints a
table, `comparison` trains a job twice and fills its table, `pictures` draws.
"""
