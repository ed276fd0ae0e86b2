import numpy as np
import pytest
import torch

from rnagan.data.augment import DiffAugment, draw_diffaugment, draw_jitter, flip_and_turn, jittered
from rnagan.runtime import rng


def pictures(n, side=8, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (n, 3, side, side)))


def colour_jitter(x, seed, start, strength):
    return jittered(x, torch.from_numpy(draw_jitter(seed, start, len(x))).to(x), strength)


AUGMENTATIONS = {
    "flip": lambda x, start: flip_and_turn(x, 5, start, flips=True, turns=True),
    "jitter": lambda x, start: colour_jitter(x, 5, start, 0.3),
    "diffaugment": lambda x, start: draw_diffaugment(5, "augment/real", start, len(x), x.shape[-1])(x),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_addressed_by_image_number(name):
    augment, x = AUGMENTATIONS[name], pictures(12)
    whole = augment(x, 100)
    for cut in (1, 5, 11):
        parts = torch.cat([augment(x[:cut], 100), augment(x[cut:], 100 + cut)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    assert whole.is_contiguous(memory_format=torch.channels_last) or name == "jitter"
    assert not torch.allclose(augment(x, 101), whole)


def symmetries(turns, flips):
    """The pictures that flips and quarter turns can make of one, as name → function, by NumPy."""
    out = {}
    for k in range(4) if turns else (0,):
        for mirrored in (False, True) if flips else (False,):
            out[k, mirrored] = lambda a, k=k, m=mirrored: np.rot90(a[:, :, ::-1] if m else a, k, (1, 2))
    return out


@pytest.mark.parametrize(("flips", "turns", "count"), [(True, True, 8), (False, True, 4), (False, False, 1)])
def test_all_symmetries_of_a_square_and_nothing_else(flips, turns, count):
    x = pictures(1).expand(400, -1, -1, -1)
    seen = dict.fromkeys(symmetries(turns, flips), 0)
    for image in flip_and_turn(x, 0, 0, flips=flips, turns=turns).numpy():
        (name,) = [name for name, make in symmetries(turns, flips).items() if np.array_equal(make(x[0].numpy()), image)]
        seen[name] += 1
    assert len(seen) == count
    assert min(seen.values()) > 0.6 * 400 / count  # equally often


def test_flips_alone_are_the_four_flips():
    x = pictures(1).expand(200, -1, -1, -1)
    flips = [x[0], x[0].flip(1), x[0].flip(2), x[0].flip(1, 2)]
    out = flip_and_turn(x, 0, 0, flips=True, turns=False)
    seen = [sum(torch.equal(image, flip) for image in out) for flip in flips]
    assert sum(seen) == 200 and min(seen) > 25


def numpy_diffaugment(x, shift, corner):
    """Zhao et al. 2020, pixel by pixel: translate with zeros, then cut a square of half the side out."""
    n, _, side, _ = x.shape
    out = np.zeros_like(x)
    for i in range(n):
        for row in range(side):
            for column in range(side):
                from_row, from_column = row + shift[i, 0], column + shift[i, 1]
                cut = (
                    corner[i, 0] <= row < corner[i, 0] + side // 2 and corner[i, 1] <= column < corner[i, 1] + side // 2
                )
                if 0 <= from_row < side and 0 <= from_column < side and not cut:
                    out[i, :, row, column] = x[i, :, from_row, from_column]
    return out


def test_diffaugment_equals_numpy():
    x, augment = pictures(30, side=16), draw_diffaugment(1, "p", 0, 30, 16)
    np.testing.assert_array_equal(augment(x).numpy(), numpy_diffaugment(x.numpy(), augment.shift, augment.corner))
    swapped = numpy_diffaugment(x.numpy(), augment.shift[:, ::-1], augment.corner)  # known wrong: x and y swapped
    assert not np.array_equal(augment(x).numpy(), swapped)


def test_diffaugment_draws_reach_their_ranges_and_no_further():
    draws = draw_diffaugment(0, "p", 0, 3000, 16)
    assert (np.unique(draws.shift) == np.arange(-2, 3)).all()  # an eighth of the side
    assert (np.unique(draws.corner) == np.arange(-4, 12)).all()  # the square's centre is anywhere in the tile
    assert abs(np.corrcoef(np.hstack([draws.shift, draws.corner]).T) - np.eye(4)).max() < 0.1
    assert not np.array_equal(draws.shift, draw_diffaugment(0, "q", 0, 3000, 16).shift)


def test_diffaugment_is_differentiable():
    augment = DiffAugment(np.array([[1, -2], [0, 0]]), np.array([[-2, 3], [4, 4]]))
    x = pictures(2).requires_grad_(True)
    assert torch.autograd.gradcheck(augment, x)
    (gradient,) = torch.autograd.grad(augment(x).sum(), x)
    assert set(gradient.unique().tolist()) == {0.0, 1.0}


def test_jitter_of_strength_0_changes_nothing():
    torch.testing.assert_close(colour_jitter(pictures(5), 0, 0, 0.0), pictures(5))


def test_jitter_keeps_the_range_and_changes_the_picture():
    x, seen = pictures(40), colour_jitter(pictures(40), 0, 0, 1.0)
    assert seen.abs().max() <= 1
    assert ((seen - x).abs().mean(dim=(1, 2, 3)) > 0.01).all()


def test_jitter_keeps_grey_grey():
    grey = pictures(6)[:, :1].expand(-1, 3, -1, -1)
    seen = colour_jitter(grey, 0, 0, 0.5)
    torch.testing.assert_close(seen[:, 0], seen[:, 1])
    torch.testing.assert_close(seen[:, 0], seen[:, 2])
    assert not torch.allclose(seen, grey)


def test_jitter_equals_its_definition():
    """Brightness, contrast about the picture's mean, then hue by Rodrigues' rotation and saturation, one pixel each."""
    x, strength = pictures(4) * 0.3, 0.4
    draws = 2 * rng.uniform(9, "jitter", 50, 4, 4) - 1
    expected = np.empty(x.shape)
    axis = np.ones(3) / np.sqrt(3)
    for i, image in enumerate((x.numpy() + 1) / 2):
        brightness, contrast, saturation = 1 + strength * draws[i, :3]
        image = image * brightness
        image = (image - image.mean()) * contrast + image.mean()
        angle = strength / 4 * draws[i, 3]
        for row, column in np.ndindex(image.shape[1:]):
            pixel = image[:, row, column]
            colour = pixel - pixel.mean()
            turned = (
                colour * np.cos(angle)
                + np.cross(axis, colour) * np.sin(angle)
                + axis * (axis @ colour) * (1 - np.cos(angle))
            )
            expected[i, :, row, column] = pixel.mean() + saturation * turned
    np.testing.assert_allclose(colour_jitter(x, 9, 50, strength).numpy(), (expected * 2 - 1).clip(-1, 1), atol=1e-9)


def test_jitter_turns_the_hue_by_no_more_than_a_quarter_of_the_strength():
    red = torch.tensor([0.2, -0.6, -0.6], dtype=torch.float64).view(1, 3, 1, 1).expand(200, -1, 8, 8)
    pixels = colour_jitter(red, 0, 0, 0.4)[:, :, 0, 0].numpy()
    turned = np.arctan2((pixels[:, 1] - pixels[:, 2]) * 3**0.5, 2 * pixels[:, 0] - pixels[:, 1] - pixels[:, 2])
    assert -0.1 <= turned.min() < -0.09 and 0.09 < turned.max() <= 0.1
