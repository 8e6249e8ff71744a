"""How a machine computes: measured once, written whole, read ever after."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from braintransfer import machine as machines
from braintransfer.errors import BadInput
from braintransfer.machine import Machine, describe_device, load_or_measure, measure

ENCODER = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_measurement_chooses_among_what_it_timed():
    machine, rates = measure(ENCODER, batch=2, crop=32, threads=1)
    assert machine.device == ("cuda" if torch.cuda.is_available() else "cpu") and machine.threads == 1
    assert {"fp32", "fp32 channels_last"} <= set(rates) and all(rate > 0 for rate in rates.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells how a CPU is measured")
@pytest.mark.parametrize(("bf16", "chosen"), [(0.9, "fp32"), (0.5, "bf16"), (40.0, "fp32")])
def test_noise_does_not_change_the_choice_but_a_clear_gain_does(monkeypatch, bf16, chosen):
    timed = []

    def seconds(step, way):
        timed.append(way)
        return bf16 if way.precision == "bf16" else 1.0

    monkeypatch.setattr(machines, "_training_step", lambda *a: None)
    monkeypatch.setattr(machines, "_seconds", seconds)
    machine, _ = measure(ENCODER, threads=1)
    assert (machine.precision, machine.channels_last) == (chosen, True)
    if bf16 > machines.HOPELESS:  # a CPU that emulates bf16 takes seconds a step: one look is enough
        assert sum(way.precision == "bf16" for way in timed) == 1


def test_a_run_is_measured_once_and_then_read(monkeypatch, tmp_path):
    asked = []

    def fake(encoder, threads=None):
        asked.append(encoder)
        return Machine("cpu", "fp32", True, 1), {"fp32 channels_last": 10.0}

    monkeypatch.setattr(machines, "measure", fake)
    first, second = (load_or_measure(tmp_path / "run", encoder=ENCODER) for _ in range(2))
    assert first == second == Machine("cpu", "fp32", True, 1) and asked == [ENCODER]
    assert torch.get_num_threads() == 1
    kept = json.loads((tmp_path / "run" / "machine.json").read_text())
    assert kept["images_per_second"] == {"fp32 channels_last": 10.0} and kept["encoder"] == ENCODER
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["machine.json"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"device": "cpu"}', '{"device": "tpu", "precision": "fp32", "channels_last": true, "threads": 1}',
     '{"device": "cpu", "precision": "fp32", "channels_last": true, "threads": 0}'],
)  # fmt: skip
def test_a_torn_or_impossible_machine_file_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "machine.json").write_text(content)
    with pytest.raises(BadInput, match=r"machine\.json: .*delete it") as caught:
        load_or_measure(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_run_begun_on_a_gpu_is_not_continued_without(tmp_path):
    values = {"device": "cuda", "precision": "bf16", "channels_last": True, "threads": 1}
    (tmp_path / "machine.json").write_text(json.dumps(values))
    with pytest.raises(BadInput, match="begun on a GPU"):
        load_or_measure(tmp_path)


def test_a_batch_is_arranged_as_the_machine_says():
    batch = torch.zeros(2, 3, 8, 8)
    assert Machine(channels_last=True).arrange(batch).is_contiguous(memory_format=torch.channels_last)
    assert Machine().arrange(batch).is_contiguous()
    with Machine(precision="bf16").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert describe_device()


def test_sums_are_taken_alike_on_every_x86():
    """Kernels for AVX-512 would align a scan to the template differently, and so draw other lesions."""
    said = subprocess.run(
        [sys.executable, "-c", "import braintransfer, numpy, scipy.linalg, threadpoolctl as t; print([l.get('architecture') for l in t.threadpool_info()])"],
        env={k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert not any(kernel in said for kernel in ("SkylakeX", "Cooperlake", "SapphireRapids"))


def test_the_kernels_asked_of_openblas_take_products_of_any_length():
    """OpenBLAS 0.3.34 writes over its own stack here, on AMD's processors with AVX-512: a crash far from its cause."""
    products = """
import braintransfer, numpy, scipy.linalg.blas
for length in (256, 257, 384, 512, 4096):
    left, right = numpy.ones((64, length)), numpy.ones((length, 64))
    assert (left @ right == length).all() and (scipy.linalg.blas.dgemm(1.0, left, right) == length).all()
"""
    done = subprocess.run([sys.executable, "-c", products], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
