"""What the contenders of the tiling benchmark that aren't ours install, each in an environment of its own."""

REQUIREMENTS = {
    "published": ["openslide-python>=1.4", "openslide-bin", "scikit-image", "scipy", "lmdb"],
    # PyTurboJPEG 2 wants a libjpeg-turbo 3, which Debian 12 and Ubuntu 24.04 don't have.
    "codec": ["simplejpeg", "imagecodecs", "PyTurboJPEG<2", "tifffile", "opencv-python-headless", "setuptools"],
    "hs2p": ["hs2p[openslide,tifffile]>=6.1,<7", "PyTurboJPEG<2", "pyvips[binary]"],
    "tiatoolbox": ["tiatoolbox>=2"],
    # Where its scikit-image has no wheel for this Python, building one takes longer than the benchmark.
    "histolab": ["--only-binary=scikit-image", "histolab>=0.7", "openslide-bin", "setuptools<81"],
}
DECIDE_SPEED = (  # packages whose versions are reported
    *("hs2p", "tiatoolbox", "histolab", "openslide-python", "openslide-bin", "tifffile", "imagecodecs", "PyTurboJPEG"),
    *("simplejpeg", "pyvips", "pillow", "numpy", "scikit-image", "lmdb", "opencv-python-headless", "rnagan"),
)
