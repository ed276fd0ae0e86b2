"""Settings of the classifiers of tiles."""

import dataclasses

from rnagan.config.base import BACKBONES, NORMS, Config, setting
from rnagan.io.bounds import MAX_SEED


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Config):
    """A ResNet that says what class a tile is of. Defaults: the preset `paper`, which says where each is from."""

    label: str = setting("tissue", "column of the cohort table that holds the class of a slide")
    where: str = setting("", "slides to use, by any column of the cohort table: 'split=test; tissue=Lung,Colon'")
    per_class: int = setting(1000, "real tiles of each class, as evenly over its donors as can be", low=2)
    backbone: str = setting("resnet50", "ResNet of torchvision (article: ResNet-50)", choices=BACKBONES)
    norm: str = setting("batch", "normalisation in the network; that of the pretrained backbone", choices=NORMS)
    resolution: int = setting(0, "side of a tile for the network, px; 0: as stored", low=0, high=1024)
    folds: int = setting(5, "folds of the cross-validation, stratified, by donor (article: 5)", low=2, high=50)
    epochs: int = setting(40, "passes of the training tiles (article: 40)", low=1)
    batch_size: int = setting(4, "tiles a step (article: 4)", low=2)
    lr: float = setting(3e-5, "AdamW's learning rate (article: 3e-5)", low=0.0)
    weight_decay: float = setting(0.01, "AdamW's weight decay (article: 0.01)", low=0.0)
    flips: bool = setting(False, "random flips and quarter turns of training tiles (the article names none)")
    validation_share: float = setting(
        0.0, "share of the training donors on which training stops early; 0: it doesn't", low=0.0, high=0.5
    )
    patience_epochs: int = setting(3, "epochs without a lower validation loss before training stops", low=1)
    seed: int = setting(0, "seed of tiles, folds, first weights and the order of tiles", low=0, high=MAX_SEED)
    precision: str = setting("float32", "arithmetic", choices=("float32", "bf16"))
    threads: int = setting(0, "CPU threads; 0: all cores", low=0)
