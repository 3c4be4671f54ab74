"""What a record says of where it was taken."""

import torch

from vidprune.environment import environment


def test_an_environment_names_what_ran() -> None:
    record = environment(torch.device("cpu"))
    assert record["torch"] == torch.__version__
    assert record["cpu_threads"] == torch.get_num_threads()
    assert record["device"] == "cpu"
