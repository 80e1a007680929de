"""Inner products of bytes: the processor's own instructions give what plain sums give, and are used where it can."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from llvmlite import binding
from numba import njit

from lightretriever.index.segment.dense_kernels import scan_codes
from lightretriever.index.segment.int8_dot import as_float, as_int, dot_part, dot_row, prefetch_part, prefetch_row

INSTRUCTIONS = {"avx512vnni": "vpdpbusd", "avxvnni": "vpdpbusd", "dotprod": "sdot"}

PRODUCTS = """
import json, sys
import numpy as np
from numba import njit
from lightretriever.compiled import compiled
from lightretriever.index.segment.dense import scan
from lightretriever.index.segment import dense_kernels
from lightretriever.index.segment.codes import encode
from lightretriever.index.segment.scratch import DenseScratch

codes = encode(np.random.default_rng(3).standard_normal((300, 200), dtype=np.float32))
query = np.random.default_rng(4).standard_normal(200, dtype=np.float32)
places, scores = scan(codes, 300, query[None], 20, None, DenseScratch()).row(0)
kernel = dense_kernels.find_all
loaded = sum(kernel.stats.cache_hits.values())
narrow = np.zeros(200, np.int8)
dense_kernels.narrow_query(query, narrow)

@njit
def products(rows, narrow, out):
    for i in range(len(rows)):
        out[i] = dense_kernels.dot_row(rows, i, narrow)

out = np.zeros(300, np.int32)
products(codes.hi, narrow, out)
text = "".join(products.inspect_asm().values())
own = any(name in text for name in ("vpdpbusd", "sdot"))
print(json.dumps([places.tolist(), out.tolist(), own, loaded]))
"""


@njit
def products(rows, query, out):
    for i in range(len(rows)):
        prefetch_row(rows, i)
        out[i] = dot_row(rows, i, query)


def host_instruction():
    features = binding.get_host_cpu_features()
    return next((name for feature, name in INSTRUCTIONS.items() if features.get(feature)), None)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 4), st.sampled_from([1, 3, 16, 31, 63, 64, 65, 100, 128, 384]))
def test_it_is_the_sum_of_products(data, n, dim):
    rows = data.draw(arrays(np.int8, (n, dim)))
    query = data.draw(arrays(np.int8, dim))
    out = np.zeros(n, np.int32)
    products(rows, query, out)
    assert out.tolist() == (rows.astype(np.int64) @ query.astype(np.int64)).tolist()


@njit
def parts(rows, query, begin, end, out):
    for i in range(len(rows)):
        prefetch_part(rows, i, begin, end)
        out[i] = dot_part(rows, i, query, begin, end)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 64, 100, 384]))
def test_parts_add_up(data, dim):
    rows, query = data.draw(arrays(np.int8, (3, dim))), data.draw(arrays(np.int8, dim))
    begin, end = sorted((data.draw(st.integers(0, dim)), data.draw(st.integers(0, dim))))
    out = np.zeros(3, np.int32)
    parts(rows, query, begin, end, out)
    assert out.tolist() == (rows[:, begin:end].astype(np.int64) @ query[begin:end].astype(np.int64)).tolist()


@pytest.mark.parametrize(("row", "query"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_nothing_saturates_at_the_ends(row, query):
    out = np.zeros(2, np.int32)
    products(np.full((2, 4096), row, np.int8), np.full(4096, query, np.int8), out)
    assert out.tolist() == [row * query * 4096] * 2


@njit
def there_and_back(values, bits, back):
    for i in range(len(values)):
        bits[i] = as_int(values[i])
        back[i] = as_float(bits[i])


def test_bits_of_floats():
    values = np.array([0, -0.0, 1.5, -2.25e-30, np.inf], np.float32)
    bits, back = np.zeros(5, np.int32), np.zeros(5, np.float32)
    there_and_back(values, bits, back)
    assert bits.tolist() == values.view(np.int32).tolist()
    assert back.tobytes() == values.tobytes()


@pytest.mark.skipif(host_instruction() is None, reason="this processor has no instruction for it")
def test_the_processors_own_instruction_is_used():
    products(np.zeros((1, 64), np.int8), np.zeros(64, np.int8), np.zeros(1, np.int32))
    assert all(host_instruction() in text for text in products.inspect_asm().values())


def in_another_process(cache, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_kept_code_is_never_run_on_a_processor_of_another_kind(tmp_path):
    """Both kinds share a folder; each compiles its own, finds its own again, and both give the same."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    own = in_another_process(tmp_path)
    other = in_another_process(tmp_path, **plain)
    assert own[:2] == other[:2]
    assert (own[2], other[2]) == (host_instruction() is not None, False)
    assert own[3] == other[3] == 0  # each compiled its own
    assert in_another_process(tmp_path)[3] == in_another_process(tmp_path, **plain)[3] == 1


COMPILED = """
from numba import njit, types
from lightretriever.index.segment.int8_dot import dot_row

@njit
def product(rows, row, query):
    return dot_row(rows, row, query)

product.compile((types.Array(types.int8, 2, "C"), types.int64, types.Array(types.int8, 1, "C")))
print("".join(product.inspect_asm().values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="code for x86 processors")
@pytest.mark.parametrize(
    ("name", "features", "instruction"),
    [
        ("znver4", "+avx512f,+avx512bw,+avx512vnni", "%zmm"),
        ("alderlake", "+avx2,+avxvnni", "vpdpbusd"),
        ("haswell", "+avx2", "vpmaddwd"),
    ],
)
def test_code_for_other_processors(name, features, instruction):
    """Compiled here for processors that this one need not be, and not run."""
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, check=True)
    assert instruction in done.stdout
    assert ("vpdpbusd" in done.stdout) == ("vnni" in features)


def test_scans_go_through_it():
    assert scan_codes.py_func.__globals__["dot_row"] is dot_row
