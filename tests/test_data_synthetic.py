"The synthetic pets: the same bytes everywhere, exact labels, no two alike."
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from unet_course.data import BACKGROUND, BORDER, PET
from unet_course.datasets.drawing import HashGenerator, mix64, value_noise
from unet_course.datasets.synthetic import COATS, synthetic_pets, trimap_of

STORED = '59fe99589bda71b8d58217f6605cb4b1e4cfec4d7d7c6ace7e3171b023cec82c'  # of synthetic_pets(8, size=32, seed=0)


def digest(pets):
    "Returns the SHA-256 of the images (NHWC) followed by the trimaps (NHW)"
    images = pets.images.permute(0, 2, 3, 1).contiguous().numpy()
    return hashlib.sha256(images.tobytes() + pets.trimaps.contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture(scope='module')
def pets():
    return synthetic_pets(200, size=64, seed=0)


def test_stored_hash():
    assert digest(synthetic_pets(8, size=32, seed=0)) == STORED


def test_same_bytes_in_another_process():
    code = ('import hashlib; from unet_course.datasets.synthetic import synthetic_pets; p = synthetic_pets(3, size=40, seed=5); '
            'print(hashlib.sha256(p.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes() + p.trimaps.contiguous().numpy().tobytes()).hexdigest())')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(synthetic_pets(3, size=40, seed=5))


def test_shapes_types_and_labels(pets):
    assert pets.images.shape == (200, 3, 64, 64) and pets.images.dtype == torch.uint8
    assert pets.images.is_contiguous(memory_format=torch.channels_last)
    assert pets.trimaps.shape == (200, 64, 64) and pets.trimaps.dtype == torch.uint8
    assert set(pets.trimaps.unique().tolist()) == {PET, BACKGROUND, BORDER}
    assert pets.breeds.dtype == torch.int64 and set(pets.breeds.tolist()) == set(range(1, len(COATS) + 1))
    assert pets.test.dtype == torch.bool and pets.test.shape == (200,) and not pets.test.any()
    assert pets.names[12] == 'synthetic_0_00012' and len(set(pets.names)) == 200
    assert pets.source == 'synthetic'


def test_every_picture_has_pet_border_and_background(pets):
    for value, least in ((PET, 0.01), (BACKGROUND, 0.01), (BORDER, 0.005)):
        assert (pets.trimaps == value).double().mean((1, 2)).min() > least


def test_proportions_resemble_the_photos(pets):
    share = lambda value: (pets.trimaps == value).double().mean().item()
    assert 0.24 < share(PET) < 0.36 and 0.09 < share(BORDER) < 0.16


def test_no_two_alike(pets):
    assert len({image.numpy().tobytes() for image in pets.images}) == 200
    assert len({trimap.numpy().tobytes() for trimap in pets.trimaps}) == 200


def test_a_picture_depends_on_seed_number_and_size_only(pets):
    few = synthetic_pets(4)
    assert torch.equal(few.images, pets.images[:4]) and torch.equal(few.trimaps, pets.trimaps[:4])
    assert few.names == pets.names[:4] and torch.equal(few.breeds, pets.breeds[:4])
    other = synthetic_pets(4, seed=1)
    assert not any(torch.equal(a, b) for a in few.images for b in other.images)


def test_sizes_show_the_same_scene():
    small, large = synthetic_pets(12, size=32), synthetic_pets(12, size=96)
    assert torch.equal(small.breeds, large.breeds)
    a, b = small.trimaps == PET, large.trimaps[:, 1::3, 1::3] == PET
    assert (a & b).sum() / (a | b).sum() > 0.75


def test_pet_and_background_never_touch(pets):
    t = pets.trimaps.int()
    for a, b in ((t[:, 1:], t[:, :-1]), (t[:, :, 1:], t[:, :, :-1])):
        assert not ((a == PET) & (b == BACKGROUND) | (a == BACKGROUND) & (b == PET)).any()


@pytest.mark.parametrize('reach', [1, 2, 4])
def test_trimap_against_pooling(reach):
    pet = torch.rand(30, 80, 80, generator=torch.Generator().manual_seed(0)) < torch.linspace(0.01, 1, 30)[:, None, None]
    padded = torch.nn.functional.pad(pet.float()[:, None], (reach,) * 4, mode='replicate')
    most = torch.nn.functional.max_pool2d(padded, 2 + 2 * reach, 2)[:, 0]
    least = -torch.nn.functional.max_pool2d(-padded, 2 + 2 * reach, 2)[:, 0]
    for k in range(30):
        expected = torch.where(least[k] == 1, PET, torch.where(most[k] == 1, BORDER, BACKGROUND))
        assert torch.equal(torch.from_numpy(trimap_of(pet[k].numpy(), reach)).long(), expected)


def test_hashes_are_alike_for_integers_and_arrays_and_one_to_one():
    numbers = [0, 1, 2, 2**32, 2**63 + 5, 2**64 - 1]
    assert mix64(np.array(numbers, np.uint64)).tolist() == [mix64(x) for x in numbers]
    assert len(set(mix64(np.arange(10**5, dtype=np.uint64)).tolist())) == 10**5
    flipped = [bin(mix64(x) ^ mix64(x ^ 1 << bit)).count('1') for x in range(1, 50) for bit in range(64)]
    assert 31 < np.mean(flipped) < 33  # one bit of the input sways half of the output


def test_a_generator_depends_on_seed_and_picture_alone():
    first = [HashGenerator(3, 7).between(0, 99) for _ in range(2)]
    assert first[0] == first[1]
    draws = HashGenerator(3, 7)
    values = [draws.between(-2, 2) for _ in range(200)]
    assert set(values) == {-2, -1, 0, 1, 2} and {draws.pick('ab') for _ in range(20)} == {'a', 'b'}
    keys = {HashGenerator(seed, i).key() for seed in range(20) for i in range(20)}
    assert len(keys) == 400


def test_noise_is_smooth_and_in_range():
    x, y = np.meshgrid(np.arange(-700, 700), np.arange(-40, 40))
    noise = value_noise(x, y, 50, key=7)
    assert noise.dtype == np.int64 and 0 <= noise.min() < 40 and 215 < noise.max() <= 255
    assert max(abs(np.diff(noise, axis=0)).max(), abs(np.diff(noise, axis=1)).max()) <= 255 // 50 + 2


@pytest.mark.parametrize('arguments, name', [(dict(n=0), 'n=0'), (dict(n=-3), 'n=-3'), (dict(n=1, size=15), 'size=15')])
def test_refusals_name_the_argument(arguments, name):
    with pytest.raises(ValueError, match=name):
        synthetic_pets(**arguments)


@pytest.mark.parametrize('size', [16, 17, 50])
def test_odd_sizes(size):
    pets = synthetic_pets(6, size=size)
    assert pets.images.shape == (6, 3, size, size)
    assert ((pets.trimaps == PET).flatten(1).any(1) & (pets.trimaps == BACKGROUND).flatten(1).any(1)).all()
