from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rnagan.evaluation.features import _in_batches
from rnagan.io.files import read_json
from rnagan.runtime.devices import arithmetic, choose_device, computes_bf16, environment_of, rounding, set_arithmetic
from rnagan.tracking.evaluations import EVALUATION_RECORD, record_evaluation
from rnagan.training.launch import resolve_precision, start


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two of them: nothing is computed there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture(autouse=True)
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for the CPU."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("wanted", "device"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")]
)
def test_a_gpu_is_taken_where_there_is_one_and_any_by_its_name(wanted: str, device: str) -> None:
    assert choose_device(wanted) == torch.device(device)
    assert choose_device(torch.device(device)) == torch.device(device)


def test_a_training_that_is_started_computes_on_the_same_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert environment_of(torch.device("cpu")).items() >= {"ACCELERATE_USE_CPU": "true"}.items()
    second = {"ACCELERATE_USE_CPU": "false", "CUDA_VISIBLE_DEVICES": "1"}
    assert environment_of(torch.device("cuda:1")).items() >= second.items()
    assert "CUDA_VISIBLE_DEVICES" not in environment_of(torch.device("cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # the second GPU that this process sees
    assert environment_of(torch.device("cuda:1"))["CUDA_VISIBLE_DEVICES"] == "7"
    with pytest.raises(ValueError, match="Nothing is trained on mps; choose --device cpu or cuda"):
        environment_of(torch.device("mps"))


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="no device cuda:2: PyTorch sees 2 GPUs here; choose auto or cpu"):
        choose_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert choose_device() == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("cuda", "There is no device cuda: PyTorch sees 0 GPUs here; choose auto or cpu."),
        ("cuda:0", "There is no device cuda:0: PyTorch sees 0 GPUs"),
        ("mps", "There is no device mps: PyTorch sees no GPU of Apple's here; choose auto or cpu."),
        ("gpu", "'gpu' is no device; choose auto, cpu, cuda, cuda:1 .the second GPU. or mps."),
        ("cuda:one", "'cuda:one' is no device"),
        ("meta", "'meta' is no device"),
        ("cpu:1", "'cpu:1' is no device"),
        ("", "'' is no device"),
    ],
)
def test_a_wrong_device_is_one_sentence(wanted: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose_device(wanted)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("said", "device"), [("true", "cpu"), ("1", "cpu"), ("Yes", "cpu"), ("false", "cuda")])
def test_a_launch_for_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch, said: str, device: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert choose_device() == torch.device(device)
    assert computes_bf16() == (device == "cpu")
    assert choose_device("cuda:1") == torch.device("cuda:1")  # by its name all the same


@pytest.mark.usefixtures("two_gpus")
def test_bf16_that_is_emulated_is_not_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_bf16() and resolve_precision("auto") == "float32"
    with pytest.raises(ValueError, match="precision bf16: this GPU only emulates it, slower than float32; choose fp16"):
        start("bf16", 0)


@pytest.fixture
def rounds_to_tf32() -> Iterator[None]:
    """Convolutions and products in TF32, as another library may leave them."""
    places = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)
    before = [each.fp32_precision for each in places]
    for each in places:
        each.fp32_precision = "tf32"
    yield
    for each, kept in zip(places, before, strict=True):
        each.fp32_precision = kept


@pytest.mark.usefixtures("rounds_to_tf32")
def test_float32_is_float32_from_the_start_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    coarse = rounding(torch.device("cuda"))
    assert coarse == {"device": "cuda", "float32_convolutions": "tf32", "float32_products": "tf32"}
    set_arithmetic(torch.device("cpu"))
    exact = rounding(torch.device("cuda"))
    assert exact == {"device": "cuda", "float32_convolutions": "ieee", "float32_products": "ieee"}
    assert not torch.backends.cudnn.benchmark and not torch.backends.cudnn.allow_tf32
    assert rounding(torch.device("cpu")) == arithmetic() == {"device": "cpu"}


@pytest.mark.usefixtures("rounds_to_tf32")
def test_extractors_compute_float32_as_it_is_whatever_else_does() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(rounding(torch.device("cuda")))
        return x.flatten(1)[:, :4]

    _in_batches(np.zeros((2, 8, 8, 3), np.uint8), 4, look)
    assert seen == [{"device": "cuda", "float32_convolutions": "ieee", "float32_products": "ieee"}]
    assert rounding(torch.device("cuda"))["float32_convolutions"] == "tf32"


def test_a_score_is_kept_with_the_arithmetic_that_it_came_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_evaluation(tmp_path / "cpu", "fid", "0" * 64, {}, {})
    set_arithmetic(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    try:
        record_evaluation(tmp_path / "gpu", "fid", "0" * 64, {}, {})
    finally:
        set_arithmetic(torch.device("cpu"))
    of_cpu, of_gpu = (read_json(tmp_path / name / EVALUATION_RECORD) for name in ("cpu", "gpu"))
    assert of_cpu["arithmetic"] == {"device": "cpu"} and of_cpu["key"] == of_gpu["key"]
    assert of_gpu["arithmetic"]["gpu"] == "a GPU" and of_gpu["arithmetic"]["float32_convolutions"] == "ieee"
