"""What the library costs beside eager and compiled PyTorch, and beside a plain stream of memory.

cases.py       the table: one row per case, its minimal bytes and its aims beside it; in
               region_cases.py the masks and weights that are born in the kernel; case.py: a row
providers.py   who computes a case: fused, eager, compiled, and the peers that a row names
stream.py      the bound: a plain loop over the same bytes
measure.py     interleaved rounds of all of them on one pinned core (or a GPU)
test_bench.py  the table under pytest-benchmark; conftest.py its options and the closing report
report.py      text table, JSON and chart, in bench-output/

    python -m benchmarks            the whole table, under three minutes
    python -m benchmarks --quick    the cases of the aims, roughly
    python -m benchmarks -k focal   what pytest would select
"""
