"""What several tests of evaluations share."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the right shapes, but random: FID's own aren't in any package."""
    from unittest import mock

    from torch_fidelity import feature_extractor_inceptionv3 as inception

    torch.manual_seed(0)
    with mock.patch.object(inception.FeatureExtractorInceptionV3, "load_state_dict"):
        with mock.patch.object(inception, "load_state_dict_from_url"):
            network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path
