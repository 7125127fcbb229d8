"""One epoch the original's way, from process start: decode in the loop with Pillow, NCHW, no workers, fp32, the published recipe."""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from unet_course.datasets.oxford_pets import find_pets, read_lists
from unet_course.factory import create_model


class PetFiles(Dataset):
    "Image and mask read and resized each time they are asked for; pet is trimap value 1."

    def __init__(self, folder: Path, names: list[str], size: int): self.folder, self.names, self.size = folder, names, size

    def __len__(self): return len(self.names)

    def __getitem__(self, i):
        image = Image.open(self.folder / f'images/{self.names[i]}.jpg').convert('RGB').resize((self.size, self.size), Image.Resampling.BILINEAR)
        trimap = Image.open(self.folder / f'annotations/trimaps/{self.names[i]}.png').resize((self.size, self.size), Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, torch.from_numpy(np.array(trimap) == 1)[None].float()


def dice_loss(logits, targets):
    "1 - Dice of the flattened batch, smooth 1."
    probs = torch.sigmoid(logits)
    return 1 - (2 * (probs * targets).sum() + 1) / (probs.sum() + targets.sum() + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in dict(width=16, size=128, epochs=1, threads=0).items(): parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--root', type=Path, required=True)
    args = parser.parse_args()
    if args.threads: torch.set_num_threads(args.threads)
    folder = find_pets(args.root) or args.root / 'oxford-iiit-pet'
    names = [name for name, *_ in read_lists(folder)]
    cut = len(names) * 8 // 10
    train, val = (DataLoader(PetFiles(folder, part, args.size), 32, shuffle=shuffle) for part, shuffle in ((names[:cut], True), (names[cut:], False)))
    model = create_model(dict(base_width=args.width), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(args.epochs):
        start, results = time.perf_counter(), {}
        for part, loader in (('train', train), ('val', val)):
            model.train(part == 'train')
            losses, right = [], []
            with torch.set_grad_enabled(part == 'train'):
                for images, targets in loader:
                    logits = model(images)
                    loss = dice_loss(logits, targets)
                    if part == 'train':
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    losses.append(loss.item())
                    right.append(((logits > 0) == targets.bool()).float().mean().item())
            results |= {f'{part}_loss': float(np.mean(losses)), f'{part}_accuracy': float(np.mean(right))}
            if part == 'train': results['train_seconds'] = time.perf_counter() - start
    print(json.dumps(results))


if __name__ == '__main__': main()
