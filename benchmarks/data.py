"""Part 1: images a second, decoded, augmented and on the device, ours against torchvision's dataset and transforms."""
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

from benchmarks.measuring import ratio, row, take_turns
from unet_course.data import AUGMENTATION, batches
from unet_course.datasets.oxford_pets import find_pets, load_pets, read_lists
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.factory import create_model
from unet_course.losses import WeightedBCE
from unet_course.support.device import choose_amp
from unet_course.training import Recipe, make_optimizer, train_step

TITLE = 'Data: images delivered to the training step'
SIZE, BATCH, NATIVE = 128, 32, (500, 375)  # (500, 375): the commonest size among the published photos


def make_folder(
    root: Path,          # folder to make oxford-iiit-pet in
    images: int,         # how many pairs
    size: tuple[int, int],  # (width, height) of the files
) -> str:  # where the photos came from
    "The source of a dataset in the official layout whose files have that size: real photos if there are any, else synthetic pets."
    folder, source = Path(root) / 'oxford-iiit-pet', find_pets()
    for part in ('images', 'annotations/trimaps'): (folder / part).mkdir(parents=True)
    if source is None:
        pets = synthetic_pets(images, SIZE)
        pairs = [(name, Image.fromarray(image.permute(1, 2, 0).numpy()), Image.fromarray(trimap.numpy())) for name, image, trimap in zip(pets.names, pets.images, pets.trimaps)]
        breeds, test, kind = pets.breeds.tolist(), [i % 2 == 1 for i in range(images)], 'synthetic pets'
    else:
        rows = read_lists(source)
        rows = rows[::max(1, len(rows) // images)][:images]
        pairs = [(name, Image.open(source / f'images/{name}.jpg').convert('RGB'), Image.open(source / f'annotations/trimaps/{name}.png')) for name, *_ in rows]
        breeds, test, kind = [r[1] for r in rows], [r[2] for r in rows], 'photos'
    native = pairs[0][1].size != (SIZE, SIZE)
    for name, image, trimap in pairs:
        image.resize(size, Image.Resampling.BILINEAR).save(folder / f'images/{name}.jpg', quality=90)
        trimap.resize(size, Image.Resampling.NEAREST).save(folder / f'annotations/trimaps/{name}.png')
    for file, wanted in (('trainval.txt', False), ('test.txt', True)):
        lines = [f'{name} {breed} 1 1\n' for (name, *_), breed, is_test in zip(pairs, breeds, test) if is_test == wanted]
        (folder / 'annotations' / file).write_text(''.join(lines))
    return f'{kind} of {"their native size" if native else f"{SIZE}x{SIZE} pixels"} resized to {size[0]}x{size[1]}'


def torchvision_loader(
    root: Path,    # holds oxford-iiit-pet
    workers: int,  # processes that load
    device: torch.device,
):  # an iterable of (images, targets)
    "torchvision's dataset and transforms.v2 with our augmentations, the loader kept alive between epochs."
    from torchvision.datasets import OxfordIIITPet, wrap_dataset_for_transforms_v2
    from torchvision.transforms import InterpolationMode, v2
    a = AUGMENTATION
    transforms = v2.Compose([
        v2.ToImage(), v2.Resize((SIZE, SIZE)), v2.RandomHorizontalFlip(a['flip']),
        v2.RandomAffine(a['rotation'], translate=(a['shift'],) * 2, scale=a['scale'], interpolation=InterpolationMode.BILINEAR),
        v2.ColorJitter(brightness=a['brightness'], contrast=a['contrast']),
        v2.ToDtype(torch.float32, scale=True)])
    dataset = wrap_dataset_for_transforms_v2(OxfordIIITPet(root, split='trainval', target_types='segmentation', transforms=transforms))
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, pin_memory=device.type == 'cuda')

    def one_epoch():
        for images, trimaps in loader:
            images, targets = images.to(device, non_blocking=True), (trimaps.to(device, non_blocking=True) == 1).to(torch.uint8)
    return one_epoch


def our_epochs(
    pets,    # from `load_pets`
    device: torch.device,
):
    "A function that hands out one epoch of our augmented batches, another epoch at every call."
    if device.type == 'cuda': pets = pets.to(device)
    index, epoch = torch.nonzero(~pets.test)[:, 0], iter(range(10**9))

    def one_epoch():
        for images, targets in batches(pets, index, BATCH, device=device, seed=0, epoch=next(epoch), augmented=True): pass
    return one_epoch, len(index)


def delivered(device: torch.device, size: tuple[int, int], tiny: bool) -> dict:
    "The comparison of ours and torchvision's on files of that size."
    with tempfile.TemporaryDirectory() as scratch:
        source = make_folder(scratch, 40 if tiny else 1280, size)
        cache = Path(scratch) / 'cache'
        with mock.patch.dict(os.environ, UNET_COURSE_CACHE=str(cache)):
            def decode():
                shutil.rmtree(cache, ignore_errors=True)
                load_pets(scratch, SIZE)
            decoded = take_turns({'decode': decode}, device, rounds=3)['decode']
            pets = load_pets(scratch, SIZE)
            ours, images = our_epochs(pets, device)
            ways = {'ours': ours} | {f'torchvision, {workers} workers': torchvision_loader(scratch, workers, device) for workers in (0, 2)}
            times = take_turns(ways, device, rounds=3 if tiny else 9, seconds=90)
            count = len(pets)
            del pets, ours, ways
    rows = [row(name, seconds, images) for name, seconds in times.items()]
    once = row('ours: decoding, once and for all', decoded, count)
    per_epoch = rows[0]['seconds']['median'] / images + once['seconds']['median'] / count / 15
    spread = dict(rows[0], name='ours, with a fifteenth of the decoding', times=[t + once['seconds']['median'] * images / count / 15 for t in rows[0]['times']])
    best = max(rows[1:], key=lambda r: r['images_per_second']['median'])
    return dict(setting=f'{source}; {images} images an epoch, batches of {BATCH} at {SIZE}x{SIZE}, float32, flipped, turned, zoomed, shifted, brightness and contrast changed.',
                rows=[*rows, once], ratios=[*(ratio(rows[0], r, 10 if r is best else None) for r in rows[1:]), ratio(spread, best)],
                notes=f'Ours decodes all files once; spread over 15 epochs that makes {1e3 * per_epoch:.3g} ms an image.')


def share(device: torch.device, amp: str, tiny: bool) -> dict:
    "The comparison of one batch's data with the training step it feeds."
    width = 64 if device.type == 'cuda' else 4 if tiny else 16
    pets = synthetic_pets(BATCH, SIZE) if tiny or not find_pets() else load_pets(size=SIZE)
    pets = pets.to(device) if device.type == 'cuda' else pets
    dtype = choose_amp(amp, device)
    model = create_model(dict(base_width=width), seed=0).to(device, memory_format=torch.channels_last).train()
    optimizer, _ = make_optimizer(model, Recipe(), 100)
    scaler, loss = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16), WeightedBCE()
    rows = torch.arange(4 if tiny else BATCH)
    if device.type == 'cuda': rows = torch.randperm(len(pets))[:BATCH]
    def fetch(): return next(batches(pets, rows, BATCH, device=device, seed=0, augmented=True))
    images, targets = fetch()
    times = take_turns({'data of a batch': fetch, 'training step': lambda: train_step(model, loss, images, targets, optimizer, scaler, dtype, 1.0)}, device, rounds=3 if tiny else 15)
    part = [a / (a + b) for a, b in zip(*times.values())]
    table = [row(name, seconds, len(rows)) for name, seconds in times.items()]
    table[0]['percent_of_both'] = round(100 * float(torch.tensor(part).median()), 2)
    return dict(setting=f'Width {width}, batch {len(rows)}, {SIZE}x{SIZE}, AMP {str(dtype).removeprefix("torch.") if dtype else "off"}, mp-tr, AdamW; data: taken, augmented, normalised. Promised: at most 5 % of both.',
                rows=table, ratios=[ratio(table[0], table[1], 19, 'times as short (19: 5 % of both)')])


def comparisons(device: torch.device, tiny: bool):
    "Name and function of every comparison."
    yield f'{SIZE}x{SIZE} files', lambda: delivered(device, (SIZE, SIZE), tiny)
    yield 'native-size files', lambda: delivered(device, NATIVE, tiny)
    for amp in ('auto', 'off'): yield f'share of a training step, AMP {amp}', lambda amp=amp: share(device, amp, tiny)
