"""What the loaders that ours is compared with install; WebDataset is one of our own packages."""

PEERS = ["mosaicml-streaming==0.13.*", "litdata==0.2.*", "lmdb", "lz4", "opencv-python-headless"]
DECIDE_SPEED = (  # packages whose versions are reported
    *("torch", "torchvision", "numpy", "pillow", "simplejpeg", "webdataset"),
    *("mosaicml-streaming", "litdata", "lmdb", "lz4", "opencv-python-headless", "rnagan"),
)
