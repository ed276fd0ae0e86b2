from rnagan.training.vae_model import VAEModel, load_vae  # noqa: F401
