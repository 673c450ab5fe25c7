"""Images and two-dimensional toy densities; nothing here is needed from the network.

- `digits`: scikit-learn's 8×8 digits, always at hand.
- `lecture_images`: what the lectures show, the digits unless `DGM_IMAGES` names another set.
- `load`: the MNIST family, read from the folder named by the environment variable `DGM_DATA`,
  checked against a hash on every read. MNIST and Fashion-MNIST can be downloaded into it.
- `two_moons`, `pinwheel`, `eight_gaussians`, `banana`: samplers `(num, generator) → (num, 2)`.
"""

import gzip
import hashlib
import math
import os
import struct
import urllib.request
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

FOLDER_VARIABLE = "DGM_DATA"
CHOICE_VARIABLE = "DGM_IMAGES"

# Name → the archive's SHA-256.
NPZ_SHA256 = {
    "mnist": "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    "binarized_mnist": "e84abb35b1ed053c1a0b4c09438ee1d1dca9cfc70ce2069a166236c10ffcecc4",
    "caltech101_silhouettes": "489777232ac5e6612ba0218a4a07410d9e5da2211d81069efed3530e525de833",
    "freyfaces": "b31ddb973f41a99244168000379cc79c3f1e4402c3604814fe3699002931659b",
    "omniglot_resized28": "8c4833e884c9c598abfb0d26ebf66e509ccfeea672d58e1314684004afeed0ff",
}

# Name → file → MD5: the checksum these files were published with. It finds a damaged file; it
# would not stop a forged one.
IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}

# Name → mirrors of its idx files, tried in this order.
MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}

SPLITS = {
    "digits": ("train", "test"),
    "mnist": ("train", "test"),
    "fashion_mnist": ("train", "test"),
    "binarized_mnist": ("train", "valid", "test"),
    "caltech101_silhouettes": ("train", "valid", "test"),
    "freyfaces": ("train", "valid", "test"),
    "omniglot_resized28": ("train", "test"),
}

# The sizes Tomczak and Welling (2018) use for Frey Faces; their shuffle differs between runs.
FREYFACES_SIZES = {"train": 1565, "valid": 200, "test": 200}


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images with discrete grey levels.

    Attributes:
        x: `(N, H, W)` uint8, levels 0 … num_levels − 1.
        labels: `(N,)` int64, or None.
        num_levels: 2 when binary, 17 for the digits, 256 for bytes.

    """

    x: torch.Tensor
    labels: torch.Tensor | None
    num_levels: int

    def __len__(self):
        return len(self.x)

    def flat(self):
        """Grey values in [0, 1], `(N, H·W)`, in the default float type."""
        return self.x.flatten(1).to(torch.get_default_dtype()) / (self.num_levels - 1)


def binarize(images, generator=None):
    """Draw each pixel from a Bernoulli with its grey value as probability, `Images → Images`.

    A fresh draw each epoch is the "dynamic" binarization of Burda et al. (2015).
    """
    x = torch.bernoulli(images.flat(), generator=generator)
    return Images(x.to(torch.uint8).reshape(images.x.shape), images.labels, 2)


def digits(split="train"):
    """The 8×8 handwritten digits that come with scikit-learn, 17 levels, labels 0 … 9.

    1797 images in one fixed random order: the first 1500 are the train split, the other 297 test.

    Raises:
        ValueError: for an unknown split; the message lists the choices.

    """
    _check_choice("split of digits", split, SPLITS["digits"])
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    data = load_digits()
    rows = _split_rows(len(data.target), {"train": 1500, "test": 297}, split)
    return _images(data.images[rows].astype(np.uint8), data.target[rows], 17)


def lecture_images(split="train"):
    """The images that the lectures train on: the digits, or the set that `DGM_IMAGES` names.

    `DGM_IMAGES=mnist` reads MNIST from the folder that `DGM_DATA` names; see `load`.

    Raises:
        ValueError: for an unknown set or split; the message lists the choices.
        FileNotFoundError: when the files are not there; the message says how to get them.

    """
    name = os.environ.get(CHOICE_VARIABLE, "digits")
    _check_choice(f"data set in {CHOICE_VARIABLE}", name, SPLITS)
    return digits(split) if name == "digits" else load(name, split)


def load(name, split, folder=None, download=False):
    """Read an image data set: `Images` with `(N, 28, 28)` uint8, Frey Faces `(N, 28, 20)`.

    | name | train, valid, test | levels | labels |
    | --- | --- | --- | --- |
    | digits | 1500, –, 297 (8×8, needs no folder) | 17 | 0 … 9 |
    | mnist | 60000, –, 10000 | 256 | 0 … 9 |
    | fashion_mnist | 60000, –, 10000 | 256 | 0 … 9 |
    | binarized_mnist | 50000, 10000, 10000 (test in class order) | 2 | none |
    | caltech101_silhouettes | 4100, 2264, 2307 (object 0, background 1) | 2 | 1 … 101 |
    | freyfaces | 1565, 200, 200 (our fixed shuffle; no official split) | 256 | none |
    | omniglot_resized28 | 19280, –, 13180 (by alphabet; not IWAE's file) | 256 | 0 … 1622 |

    MNIST and Fashion-MNIST may also be the four original files `train-images-idx3-ubyte.gz`, …, in
    a sub-folder of the data set's name.

    Args:
        name: one of the table's names.
        split: "train", "valid" or "test".
        folder: where the files are; by default the environment variable DGM_DATA.
        download: fetch missing idx files (MNIST and Fashion-MNIST) into the folder.

    Raises:
        ValueError: for an unknown name or split, or a file that is not what its hash says.
        FileNotFoundError: when the folder or the files are missing.
        ConnectionError: when no mirror could be reached.

    """
    _check_choice("data set", name, SPLITS)
    _check_choice(f"split of {name}", split, SPLITS[name])
    if name == "digits":
        return digits(split)
    folder = _find_folder(folder, download)
    archive = folder / f"{name}.npz"
    if name in NPZ_SHA256 and archive.exists():
        return _read_npz(archive, name, split)
    if name not in IDX_MD5:
        raise FileNotFoundError(
            f"{archive} is not there, and it cannot be downloaded from here: copy it there, or set "
            f"{FOLDER_VARIABLE} to the folder that holds it"
        )
    part = "train" if split == "train" else "t10k"
    paths = [folder / name / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.exists() and download:
            _download(path, name)
        elif not path.exists():
            looked = f"{archive} or {path}" if name in NPZ_SHA256 else path
            raise FileNotFoundError(
                f"{name} is not there (looked for {looked}): "
                f"pass download=True, or set {FOLDER_VARIABLE} to the folder that holds it"
            )
    return _images(_read_idx(paths[0], name, dims=3), _read_idx(paths[1], name, dims=1), 256)


def two_moons(num, generator=None):
    """Two interleaved half circles of radius 1 with Gaussian noise of 0.1, `(num, 2)`."""
    angle = math.pi * torch.rand(num, generator=generator)
    upper = torch.rand(num, generator=generator) < 0.5
    moon = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    # The lower moon is the upper one turned by 180° and moved to (1, 1/2).
    moon = torch.where(upper[:, None], moon, torch.tensor([1.0, 0.5]) - moon)
    return moon + 0.1 * torch.randn(num, 2, generator=generator)


def pinwheel(num, generator=None):
    """Five spiral arms: Gaussians with standard deviations (0.3, 0.1) at radius 1, sheared.

    Each point is turned by `2π·arm/5 + exp(radial − 1)/4` (Johnson et al. 2016), `(num, 2)`.
    """
    points = torch.randn(num, 2, generator=generator) * torch.tensor([0.3, 0.1])
    points[:, 0] += 1
    arm = torch.randint(5, (num,), generator=generator)
    angle = 2 * math.pi * arm / 5 + 0.25 * torch.exp(points[:, 0] - 1)
    radial, tangential = points.unbind(1)
    return torch.stack(
        [
            radial * torch.cos(angle) - tangential * torch.sin(angle),
            radial * torch.sin(angle) + tangential * torch.cos(angle),
        ],
        1,
    )


def eight_gaussians(num, generator=None):
    """Equal mixture of eight Gaussians, standard deviation 0.2, on a circle of radius 2."""
    angle = 2 * math.pi * torch.randint(8, (num,), generator=generator) / 8
    centre = 2 * torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    return centre + 0.2 * torch.randn(num, 2, generator=generator)


def banana(num, generator=None):
    """Samples of `p(x) = N(x₂; 0, 4) N(x₁; x₂²/4, 1)`, `(num, 2)`.

    The second arguments are variances: x₂ has standard deviation 2. This is the density whose
    order of variables matters (Papamakarios, Pavlakou, Murray, "Masked Autoregressive Flow for
    Density Estimation", 2017, figure 1).
    """
    noise = torch.randn(num, 2, generator=generator)
    second = 2 * noise[:, 1]
    return torch.stack([second**2 / 4 + noise[:, 0], second], 1)


def banana_log_prob(x):
    """Exact log-density of `banana` in nats, `(..., 2) → (...)`."""
    first, second = x.unbind(-1)
    squares = second**2 / 4 + (first - second**2 / 4) ** 2
    return -0.5 * squares - math.log(2 * math.pi) - math.log(2)


def _images(x, labels, num_levels):
    if labels is not None:
        labels = torch.from_numpy(np.array(labels, dtype=np.int64))
    return Images(torch.from_numpy(np.array(x, dtype=np.uint8)), labels, num_levels)


def _split_rows(num, sizes, split):
    """Rows of a split of a data set that has no official one."""
    # NumPy promises that RandomState's stream never changes.
    order = np.random.RandomState(0).permutation(num)
    ends = dict(zip(sizes, np.cumsum(list(sizes.values())), strict=True))
    return order[ends[split] - sizes[split] : ends[split]]


def _check_choice(what, value, choices):
    if value not in choices:
        raise ValueError(f"unknown {what}: {value!r}; choose from {', '.join(choices)}")


def _find_folder(folder, create):
    source = "the folder"
    if folder is None:
        source = f"the folder named by the environment variable {FOLDER_VARIABLE}"
        folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise FileNotFoundError(
            f"no data folder is set: set the environment variable {FOLDER_VARIABLE} to the folder "
            "that holds mnist.npz and the like, or pass folder=..."
        )
    folder = Path(folder).expanduser()
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise FileNotFoundError(f"{source} does not exist: {folder}; create it or name another one")
    return folder


def _check_hash(path, algorithm, expected):
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} is damaged, or another version: its {algorithm} is {found}, "
            f"expected {expected}"
        )


def _read_npz(path, name, split):
    _check_hash(path, "sha256", NPZ_SHA256[name])
    with np.load(path, allow_pickle=False) as data:
        if name == "binarized_mnist":
            height, width = data["shape"]
            bits = np.unpackbits(data[split], axis=1, count=height * width)
            return _images(bits.reshape(-1, height, width), None, 2)
        if name == "freyfaces":
            x = data["x"]
            return _images(x[_split_rows(len(x), FREYFACES_SIZES, split)], None, 256)
        if name == "omniglot_resized28":
            part = "background" if split == "train" else "evaluation"
            return _images(data[f"x_{part}"], data[f"char_{part}"], 256)
        levels = 2 if name == "caltech101_silhouettes" else 256
        return _images(data[f"x_{split}"], data[f"y_{split}"], levels)


def _read_idx(path, name, dims):
    """Read an idx file of bytes: zero, zero, type 8, number of dimensions, big-endian sizes."""
    _check_hash(path, "md5", IDX_MD5[name][path.name])
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzip file: {error}") from error
    header = 4 + 4 * dims
    if content[:4] != bytes([0, 0, 8, dims]):
        raise ValueError(
            f"{path} is no idx file of bytes in {dims} dimensions: it starts with "
            f"{content[:4].hex(' ')}, not {bytes([0, 0, 8, dims]).hex(' ')}"
        )
    if len(content) < header:
        raise ValueError(f"{path} ends within its header of {header} bytes")
    shape = struct.unpack(f">{dims}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path} should hold {math.prod(shape)} bytes for {shape}, "
            f"but holds {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _download(path, name):
    """Fetch one idx file from the first mirror that has it; nothing half-written stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    failures = []
    for mirror in MIRRORS[name]:
        try:
            _fetch(mirror + path.name, partial)
            _check_hash(partial, "md5", IDX_MD5[name][path.name])
            partial.replace(path)
            return
        except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
            failures.append(f"{mirror + path.name} ({error})")
        finally:
            partial.unlink(missing_ok=True)
    raise ConnectionError(
        f"{path.name} of {name} could not be downloaded; tried {'; '.join(failures)}. "
        f"Without a network, set {FOLDER_VARIABLE} to a folder that holds {_files(name)}"
    )


def _files(name):
    files = f"{name}/ with {', '.join(IDX_MD5[name])}"
    return f"{name}.npz, or {files}" if name in NPZ_SHA256 else files


def _fetch(url, path):
    with urllib.request.urlopen(url, timeout=30) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0) or None
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
            while block := response.read(2**16):
                file.write(block)
                bar.update(len(block))
