"""Images: what is read is what was written, and every way it can go wrong says so."""

import gzip
import hashlib
import math
import struct

import numpy as np
import pytest
import torch
from conftest import ROOT

from dgm_utils import data
from dgm_utils.data import banana, banana_log_prob, binarize, digits, lecture_images, load
from dgm_utils.oracles import gauss_hermite, grid, log_integral

REAL_FILES = ROOT.parent / "shared" / "data"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, high=256):
    return np.random.default_rng(0).integers(0, high, shape).astype(np.uint8)


def digest(path, algorithm):
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()


@pytest.fixture
def write_npz(tmp_path, monkeypatch):
    """Write `name.npz` into the folder of DGM_DATA and enter its hash."""
    monkeypatch.setenv("DGM_DATA", str(tmp_path))

    def write(name, **arrays):
        path = tmp_path / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        monkeypatch.setitem(data.NPZ_SHA256, name, digest(path, "sha256"))
        return path

    return write


def idx(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def write_idx(tmp_path, monkeypatch):
    """Write one file of `mnist/` into a folder and enter its hash."""
    monkeypatch.setitem(data.IDX_MD5, "mnist", dict(data.IDX_MD5["mnist"]))

    def write(file, content, folder=tmp_path / "mnist"):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / file
        path.write_bytes(content)
        data.IDX_MD5["mnist"][file] = digest(path, "md5")
        return path

    return write


# Digits

DIGITS_SHA256 = "22ccb51d1417f811"


def test_digits_are_split_once_and_for_all():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.x.shape == (1500, 8, 8)
    assert train.x.dtype == torch.uint8
    assert (train.x.min(), train.x.max(), train.num_levels) == (0, 16, 17)
    # Together they are scikit-learn's set, which has no repeated image.
    both = torch.cat([train.x, test.x]).flatten(1)
    assert len(both.unique(dim=0)) == 1797
    # The split is part of every published number of the course.
    assert hashlib.sha256(both.numpy().tobytes()).hexdigest()[:16] == DIGITS_SHA256


def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits

    original = load_digits()
    label_of = {
        image.astype(np.uint8).tobytes(): label
        for image, label in zip(original.images, original.target, strict=True)
    }
    for split in ("train", "test"):
        images = digits(split)
        expected = [label_of[image.numpy().tobytes()] for image in images.x]
        assert images.labels.tolist() == expected
        assert images.labels.unique().tolist() == list(range(10))


def test_lectures_show_the_digits_unless_told_otherwise(monkeypatch, write_npz):
    monkeypatch.delenv("DGM_IMAGES", raising=False)
    assert lecture_images("test").x.equal(digits("test").x)
    monkeypatch.setenv("DGM_IMAGES", "minst")
    with pytest.raises(ValueError, match="'minst'; choose from digits, mnist"):
        lecture_images()


def test_lectures_show_mnist_when_told_so(monkeypatch, write_npz):
    test = np.full((2, 28, 28), 7, np.uint8)
    labels = np.zeros(2, np.int64)
    write_npz("mnist", x_train=test[:1], y_train=labels[:1], x_test=test, y_test=labels)
    monkeypatch.setenv("DGM_IMAGES", "mnist")
    assert lecture_images("test").x.shape == (2, 28, 28)


def test_flat_runs_from_zero_to_one():
    flat = digits("test").flat()
    assert flat.shape == (297, 64)
    assert (flat.min(), flat.max()) == (0, 1)
    assert flat[0, 9] == digits("test").x[0, 1, 1] / 16


def test_binarize_draws_each_pixel_with_its_grey_value():
    images = digits("train")
    binary = binarize(images, seeded())
    assert binary.num_levels == 2
    assert binary.x.unique().tolist() == [0, 1]
    assert torch.equal(binary.labels, images.labels)
    assert torch.equal(binary.x, binarize(images, seeded()).x)
    assert not torch.equal(binary.x, binarize(images, seeded(1)).x)
    grey, drawn = images.flat(), binary.flat()
    # Black and white are certain; for every other level a binomial test at 5 standard errors.
    for level in images.x.unique() / 16:
        pixels = drawn[grey == level]
        error = math.sqrt(level * (1 - level) / len(pixels))
        assert abs(pixels.mean() - level) <= 5 * error


# Two-dimensional densities


def test_banana_density_integrates_to_one():
    # Along x₁ the density is N(x₂²/4, 1), within [0, 42] ± 9 while |x₂| ≤ 13.
    nodes, log_weights = grid(-20, 60, 321, dims=2)
    total = log_integral(banana_log_prob(nodes), log_weights)
    assert abs(total.item()) < 1e-12


def test_banana_samples_have_the_moments_of_the_density():
    num = 100_000
    x = banana(num, seeded())
    assert x.shape == (num, 2)
    first, second = x.double().unbind(1)
    # x₂ ~ N(0, 4) and x₂²/4 ~ χ²₁, so E x₁ = 1 and Var x₁ = 2 + 1.
    for values, expected in [
        (second, 0),
        (second**2, 4),
        (first, 1),
        ((first - 1) ** 2, 3),
        (first * second**2, 12),  # E x₂⁴/4 = 3·16/4
        (first - second**2 / 4, 0),
    ]:
        assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(num)


def test_eight_gaussians_have_eight_centres():
    num = 40_000
    x = data.eight_gaussians(num, seeded())
    angle = torch.atan2(x[:, 1], x[:, 0])
    mode = torch.round(angle / (math.pi / 4)).long() % 8
    counts = torch.bincount(mode, minlength=8)
    assert ((counts - num / 8).abs() < 5 * math.sqrt(num * 7 / 64)).all()
    # E |x|² = 2² + 2·0.2², with the variance 4·2²·0.2² + 4·0.2⁴.
    squared = (x**2).sum(1)
    assert abs(squared.mean() - 4.08) < 5 * math.sqrt((0.64 + 0.0064) / num)


def test_two_moons_lie_on_half_circles():
    num = 20_000
    x = data.two_moons(num, seeded()).double()
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    to_circle = ((x[:, None] - centre).norm(dim=2) - 1).abs()
    # Six standard deviations of the noise, 0.1, and the least of two circles.
    assert to_circle.min(1).values.max() < 0.6
    # By symmetry about (1/2, 1/4); Var x₁ of one moon is 1/2, between the moons 1/4, noise 0.01.
    error = 5 * x.std(0) / math.sqrt(num)
    assert ((x.mean(0) - torch.tensor([0.5, 0.25])).abs() < error).all()
    spread = (x[:, 0] - 0.5) ** 2
    assert abs(spread.mean() - 0.76) < 5 * spread.std() / math.sqrt(num)


def test_pinwheel_has_five_equal_arms():
    num = 40_000
    x = data.pinwheel(num, seeded()).double()
    # Turning a radius and an angle does not change the radius: E |x|² = 1 + 0.3² + 0.1².
    squared = (x**2).sum(1)
    assert abs(squared.mean() - 1.1) < 5 * squared.std() / math.sqrt(num)
    # Five-fold symmetry: E (x₁ + i x₂)^m vanishes for m = 1 … 4. For m = 5 the arm drops out, and
    # what is left, with the spiral in it, is an expectation over two Gaussians.
    nodes, log_weights = gauss_hermite(40, dims=2)
    radial, tangential = 1 + 0.3 * nodes[:, 0], 0.1 * nodes[:, 1]
    spiral = torch.exp(1j * 5 * 0.25 * torch.exp(radial - 1))
    fifth = (log_weights.exp() * torch.complex(radial, tangential) ** 5 * spiral).sum()
    for m, expected in [(1, 0), (2, 0), (3, 0), (4, 0), (5, fifth)]:
        power = torch.complex(x[:, 0], x[:, 1]) ** m
        assert (power.mean() - expected).abs() < 5 * power.std() / math.sqrt(num)


@pytest.mark.parametrize("sample", [data.two_moons, data.pinwheel, data.eight_gaussians, banana])
def test_samples_follow_from_the_generator(sample):
    assert sample(7, seeded()).shape == (7, 2)
    assert torch.equal(sample(7, seeded()), sample(7, seeded()))
    assert not torch.equal(sample(7, seeded()), sample(7, seeded(1)))


# Archives


def test_mnist_npz(write_npz):
    arrays = {"x_train": random_images(5, 28, 28), "y_train": np.arange(5, dtype=np.uint8)}
    arrays |= {"x_test": random_images(3, 28, 28), "y_test": np.array([7, 8, 9], np.uint8)}
    write_npz("mnist", **arrays)
    for split in ("train", "test"):
        images = load("mnist", split)
        assert np.array_equal(images.x, arrays[f"x_{split}"])
        assert np.array_equal(images.labels, arrays[f"y_{split}"])
        assert images.num_levels == 256


def test_binarized_mnist_is_unpacked(write_npz):
    parts = {split: random_images(4, 28 * 28, high=2) for split in ("train", "valid", "test")}
    parts["valid"] = 1 - parts["valid"]
    packed = {split: np.packbits(x, axis=1) for split, x in parts.items()}
    write_npz("binarized_mnist", shape=np.array([28, 28]), **packed)
    for split, x in parts.items():
        images = load("binarized_mnist", split)
        assert np.array_equal(images.x.flatten(1), x)
        assert images.labels is None
        assert images.num_levels == 2


def test_caltech_keeps_its_labels(write_npz):
    arrays = {}
    for label, split in enumerate(("train", "valid", "test"), 100):
        arrays[f"x_{split}"] = np.full((2, 28, 28), label % 2, np.uint8)
        arrays[f"y_{split}"] = np.full(2, label, np.uint8)
    write_npz("caltech101_silhouettes", **arrays)
    assert load("caltech101_silhouettes", "valid").labels.tolist() == [101, 101]
    assert load("caltech101_silhouettes", "valid").x.unique().tolist() == [1]
    assert load("caltech101_silhouettes", "test").x.unique().tolist() == [0]


def test_frey_faces_are_split_without_overlap(write_npz):
    number = np.arange(1965)
    x = np.zeros((1965, 28, 20), np.uint8)
    x[:, 0, 0], x[:, 0, 1] = number // 256, number % 256
    write_npz("freyfaces", x=x)
    parts = [load("freyfaces", split).x for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [1565, 200, 200]
    found = torch.cat(parts).long()
    found = found[:, 0, 0] * 256 + found[:, 0, 1]
    assert sorted(found.tolist()) == number.tolist()
    assert found[:5].tolist() != list(range(5))  # video order is gone


def test_omniglot_splits_by_alphabet(write_npz):
    write_npz(
        "omniglot_resized28",
        x_background=np.full((2, 28, 28), 50, np.uint8),
        x_evaluation=np.full((1, 28, 28), 20, np.uint8),
        char_background=np.array([0, 963], np.int16),
        char_evaluation=np.array([1622], np.int16),
    )
    assert load("omniglot_resized28", "train").labels.tolist() == [0, 963]
    assert load("omniglot_resized28", "test").labels.tolist() == [1622]
    assert load("omniglot_resized28", "train").x.unique().tolist() == [50]
    assert load("omniglot_resized28", "test").x.unique().tolist() == [20]


def test_damaged_archive_is_named_with_both_hashes(write_npz):
    path = write_npz("freyfaces", x=random_images(1965, 28, 20))
    expected = digest(path, "sha256")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"freyfaces\.npz.*sha256") as error:
        load("freyfaces", "train")
    assert expected in str(error.value)
    assert digest(path, "sha256") in str(error.value)


def test_pickled_arrays_are_refused(write_npz):
    write_npz("freyfaces", x=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load("freyfaces", "train")


def test_real_files():
    if not REAL_FILES.is_dir():
        pytest.skip("the data files are not beside this repository")
    ones = {}
    for name, splits in data.SPLITS.items():
        if not (REAL_FILES / f"{name}.npz").exists():
            continue
        for split in splits:
            images = load(name, split, REAL_FILES)
            assert images.x.shape[1:] == ((28, 20) if name == "freyfaces" else (28, 28))
            assert images.x.max() <= images.num_levels - 1
            assert images.labels is None or len(images.labels) == len(images)
            ones[name, split] = (len(images), int(images.x.sum()))
    assert ones["mnist", "train"][0] == 60000
    assert ones["binarized_mnist", "valid"][0] == 10000
    assert ones["caltech101_silhouettes", "test"][0] == 2307
    assert ones["omniglot_resized28", "train"][0] == 19280
    # 784 pixels and the known share of ink: 13.1 % on average, binarized or not.
    for name, split in [("mnist", "train"), ("binarized_mnist", "train")]:
        num, total = ones[name, split]
        ink = total / num / 784 / (255 if name == "mnist" else 1)
        assert abs(ink - 0.1307) < 0.0005


# The original files


def test_idx_files(tmp_path, write_idx):
    x, labels = random_images(3, 28, 28), np.array([1, 2, 3], np.uint8)
    write_idx("t10k-images-idx3-ubyte.gz", idx(x))
    write_idx("t10k-labels-idx1-ubyte.gz", idx(labels))
    images = load("mnist", "test", tmp_path)
    assert np.array_equal(images.x, x)
    assert np.array_equal(images.labels, labels)


def test_idx_file_is_checked_on_every_read(tmp_path, write_idx):
    path = write_idx("t10k-images-idx3-ubyte.gz", idx(random_images(3, 28, 28)))
    write_idx("t10k-labels-idx1-ubyte.gz", idx(np.array([1, 2, 3], np.uint8)))
    load("mnist", "test", tmp_path)
    path.write_bytes(idx(1 - random_images(3, 28, 28)))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz.*md5"):
        load("mnist", "test", tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(np.zeros((3, 28, 28), np.uint8))[:-9], "no whole gzip file"),
        (b"<html>", "no whole gzip file"),
        (idx(np.zeros((3, 28), np.uint8)), "3 dimensions.*00 00 08 02"),
        (idx(np.zeros((3, 28, 28), np.uint8), kind=13), "00 00 0d 03"),
        (gzip.compress(bytes([0, 0, 8, 3, 0, 0])), "within its header"),
        (gzip.compress(gzip.decompress(idx(np.zeros((3, 2, 2), np.uint8)))[:-1]), "12 .*holds 11"),
    ],
    ids=["truncated", "html", "dimensions", "type", "header", "short"],
)
def test_malformed_idx_file_says_why(tmp_path, write_idx, content, words):
    write_idx("train-images-idx3-ubyte.gz", content)
    write_idx("train-labels-idx1-ubyte.gz", idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=words) as error:
        load("mnist", "train", tmp_path)
    assert "train-images-idx3-ubyte.gz" in str(error.value)


# The download


@pytest.fixture
def mirror(tmp_path, monkeypatch, write_idx):
    """A mirror of MNIST's test split, behind one that does not answer."""
    folder = tmp_path / "mirror"
    write_idx("t10k-images-idx3-ubyte.gz", idx(random_images(3, 28, 28)), folder)
    write_idx("t10k-labels-idx1-ubyte.gz", idx(np.array([4, 5, 6], np.uint8)), folder)
    urls = (f"{(tmp_path / 'nowhere').as_uri()}/", f"{folder.as_uri()}/")
    monkeypatch.setitem(data.MIRRORS, "mnist", urls)
    return folder


def test_download_puts_checked_files_into_the_folder(tmp_path, mirror):
    target = tmp_path / "new" / "folder"
    images = load("mnist", "test", target, download=True)
    assert images.labels.tolist() == [4, 5, 6]
    assert sorted(path.name for path in (target / "mnist").iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    for path in mirror.iterdir():
        path.unlink()
    assert load("mnist", "test", target, download=True).labels.tolist() == [4, 5, 6]


def test_forged_download_leaves_nothing(tmp_path, mirror):
    forged = mirror / "t10k-images-idx3-ubyte.gz"
    expected = digest(forged, "md5")
    forged.write_bytes(idx(random_images(4, 28, 28)))
    with pytest.raises(ConnectionError) as error:
        load("mnist", "test", tmp_path, download=True)
    for words in ("nowhere", "mirror", expected, digest(forged, "md5"), "DGM_DATA", "mnist.npz"):
        assert words in str(error.value)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_interrupted_download_leaves_nothing(tmp_path, mirror, monkeypatch):
    def interrupt(path, *_):
        assert path.stat().st_size > 0  # all of it had arrived
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "_check_hash", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", "test", tmp_path, download=True)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_mirrors_are_encrypted_and_every_file_has_a_hash():
    assert set(data.MIRRORS) == set(data.IDX_MD5)
    for urls in data.MIRRORS.values():
        assert all(url.startswith("https://") and url.endswith("/") for url in urls)
    assert set(data.SPLITS) == {"digits", *data.NPZ_SHA256, *data.IDX_MD5}


# What can be wrong before any file is read


def test_unknown_names_and_splits_list_the_choices():
    with pytest.raises(ValueError, match=r"'minst'.*digits, mnist, fashion_mnist"):
        load("minst", "train")
    with pytest.raises(ValueError, match="mnist: 'valid'; choose from train, test"):
        load("mnist", "valid")
    with pytest.raises(ValueError, match="digits: 'dev'; choose from train, test"):
        digits("dev")


def test_missing_folder_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("DGM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"no data folder is set: set .*DGM_DATA"):
        load("mnist", "train")
    monkeypatch.setenv("DGM_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"DGM_DATA does not exist: .*absent"):
        load("mnist", "train")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", r"mnist\.npz or .*train-images-idx3-ubyte\.gz.*download=True"),
        ("fashion_mnist", r"fashion_mnist/train-images-idx3-ubyte\.gz.*download=True"),
        ("freyfaces", r"freyfaces\.npz is not there, and it cannot be downloaded"),
    ],
)
def test_missing_files_say_what_to_do(tmp_path, name, words):
    with pytest.raises(FileNotFoundError, match=words):
        load(name, "train", tmp_path)


def test_digits_need_no_folder(monkeypatch):
    monkeypatch.delenv("DGM_DATA", raising=False)
    assert torch.equal(load("digits", "test").x, digits("test").x)
