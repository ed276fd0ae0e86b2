import pytest
import torch

from rnagan.runtime.devices import choose_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two of them: nothing is computed there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


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
