"""How much a file may ask for: bounds that are checked before memory is taken (docs/formats.md lists them)."""

MAX_PIXELS = 1 << 27  # of a ready-made tile or a picture: 11,585 × 11,585
MAX_JSON_BYTES = 1 << 26
MAX_YAML_BYTES = 1 << 18
MAX_DIGITS = 100  # of a whole number in JSON or YAML
MAX_GZIP_BYTES = 1 << 28  # that a gzip may hold at any rate; beyond it
MAX_GZIP_RATIO = 200  # times its own size
MAX_LINE_BYTES = 1 << 28  # of a table of text
MAX_PARQUET_ROWS = 1 << 24
MAX_HDF5_BYTES = 1 << 30  # that a data set of an .h5ad may claim at any rate; beyond it
MAX_HDF5_RATIO = 200  # times what is stored of it
MAX_LAYERS = 64  # hidden layers that a β-VAE's config may list
MAX_SEED = 2**32 - 1  # the highest that NumPy's own generators take
