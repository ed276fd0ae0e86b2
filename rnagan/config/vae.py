"""Settings of the β-VAE."""

import dataclasses
from typing import ClassVar

from rnagan.config.base import Config, setting
from rnagan.io.bounds import MAX_LAYERS, MAX_SEED

TRANSFORMS = ("zscore", "zscore_floor", "normal_scores", "lognorm")


@dataclasses.dataclass(frozen=True)
class VAEConfig(Config):
    """β-VAE training. Defaults are the preset `faithful`; presets/vae.*.yaml say where each value is from."""

    # What settings that came later were before them.
    before: ClassVar = {"architecture": "mlp", "transform": "zscore"}

    architecture: str = setting(
        "pca_skip",
        "networks: two multilayer perceptrons, or with a linear path beside each that begins as PCA",
        choices=("mlp", "pca_skip"),
    )
    hidden: str = setting("6000,4096", "widths of the encoder's hidden layers, in order")
    decoder_hidden: str = setting("", "widths of the decoder's hidden layers; empty: the encoder's in reverse")
    latent: int = setting(2048, "latent units", low=1)
    norm: str = setting("layer", "normalisation between the layers", choices=("layer", "batch"))
    output: str = setting(
        "linear", "last step of the decoder; tanh can't reach Z scores beyond 1", choices=("linear", "tanh")
    )
    input_dropout: float = setting(
        0.0, "share of genes set to 0 at the encoder's input in training, as nn.Dropout does", low=0.0, high=0.95
    )
    gene_dropout: float = setting(
        0.0,
        "largest share of genes hidden from the encoder in training; each profile's own is drawn from 0 to it",
        low=0.0,
        high=0.95,
    )
    augment_library: float = setting(
        0.0, "SD of what is added to all log expression at the encoder's input in training, log units", low=0.0
    )
    augment_genes: float = setting(
        0.0, "SD of an offset of each gene at the encoder's input in training, SDs of the gene", low=0.0
    )
    augment_shift: float = setting(
        0.0,
        "SD of offsets of genes together, in 16 random directions, at the encoder's input in training, SDs of a gene",
        low=0.0,
    )
    missing_genes: str = setting(
        "impute",
        "what the encoder sees of a gene that a profile lacks: its expectation given the others, or its training mean",
        choices=("impute", "mean"),
    )
    transform: str = setting(
        "normal_scores",
        "what the networks see: log expression as Z scores, the same with a floor under the SDs, normal scores of a "
        "profile's ranks, or logarithms of library-normalised counts",
        choices=TRANSFORMS,
    )
    logarithm: str = setting(
        "log1p",
        "logarithm of tpm and counts: ln(1 + x), or ln(x) with zeros kept; log2 data stay as they are",
        choices=("log1p", "paper"),
    )
    beta: float = setting(0.0001, "weight of the KL term, a sum over latents and mean over samples", low=0.0)
    kl_warmup_share: float = setting(0.0, "share of all steps in which beta rises from 0", low=0.0, high=1.0)
    free_bits: float = setting(0.0, "KL of a latent unit that costs nothing, nats over the batch", low=0.0)
    lr: float = setting(5e-5, "Adam's highest learning rate", low=0.0)
    warmup_share: float = setting(
        0.1, "share of all steps in which the learning rate rises; then it falls as a cosine", low=0.0, high=1.0
    )
    epochs: int = setting(250, "passes of the training split, at most", low=1)
    patience_epochs: int = setting(25, "epochs without a lower validation loss before training stops", low=1)
    batch_size: int = setting(128, "profiles a step, over all processes", low=2)
    where: str = setting("", "profiles to use, by tissue or donor: 'tissue=Lung,Liver'")
    seed: int = setting(0, "seed of the first weights, the order of profiles and all noise", low=0, high=MAX_SEED)
    precision: str = setting(
        "float32", "arithmetic; float64 is for equality tests", choices=("auto", "float64", "float32", "bf16")
    )
    threads: int = setting(0, "CPU threads a process; 0 shares the cores", low=0, role="speed")
    wait_minutes: int = setting(
        60, "minutes that processes wait for one another, as while the main one saves", low=1, role="speed"
    )
    checkpoint_epochs: int = setting(25, "epochs between checkpoints", low=1, role="resume")

    def check(self) -> None:
        if self.architecture == "pca_skip" and self.output == "tanh":
            raise ValueError("architecture pca_skip rebuilds profiles linearly: choose output linear.")
        if self.augments and self.transform not in ("zscore", "zscore_floor"):
            raise ValueError(
                f"augment_library, augment_genes and augment_shift are for transform zscore, not {self.transform}; set "
                "them to 0."
            )
        for name in ("hidden", "decoder_hidden"):
            words = [word for word in getattr(self, name).split(",") if word.strip()]
            if not all(word.strip().isdigit() and int(word) > 0 for word in words) or (name == "hidden" and not words):
                raise ValueError(f"{name} must list widths, like 6000,4096, not {getattr(self, name)!r}.")
            if len(words) > MAX_LAYERS:
                raise ValueError(f"{name} lists {len(words):,} layers, and {MAX_LAYERS} are the most.")

    @property
    def augments(self) -> bool:
        """Whether the encoder sees other profiles in training than the decoder is to rebuild, but for hidden genes."""
        return max(self.augment_library, self.augment_genes, self.augment_shift) > 0

    @property
    def encoder_widths(self) -> tuple[int, ...]:
        return tuple(int(word) for word in self.hidden.split(",") if word.strip())

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        if not self.decoder_hidden.strip():
            return self.encoder_widths[::-1]
        return tuple(int(word) for word in self.decoder_hidden.split(",") if word.strip())
