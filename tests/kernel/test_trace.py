import pytest

from kernel.trace import wire_error


def test_a_tensor_too_large_for_the_memory_is_out_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert wire_error(raised.value).data.kind == "out_of_memory"
    assert "Traceback" in capsys.readouterr().err


def test_what_torch_raises_for_a_gpu_is_out_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    error = wire_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    assert (error.data.kind, "CUDA" in error.message) == ("out_of_memory", False)


def test_any_other_runtime_error_is_a_bug_whose_text_does_not_travel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = wire_error(RuntimeError("secret"))
    assert (error.data.kind, "secret" in error.message) == ("internal_error", False)
    assert "secret" in capsys.readouterr().err
