#!/usr/bin/env bash
# Random erasing cuts a rectangle out of a picture. What happens to its mask, in two libraries that transform the pair together?
# Expected: the same in both; the object is still there behind the grey, so the mask stays.
# Seen (torchvision 0.29.1, kornia 0.9.0): torchvision leaves the mask as it is (and warns). kornia writes 0, the background class, into the same rectangle.
# Where it matters: a recipe carried from one library to the other trains on other labels: guess what is hidden, or call it background.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 kornia==0.9.0 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import warnings

import kornia.augmentation as K
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

warnings.simplefilter('ignore')
torch.manual_seed(0)
image, mask = torch.ones(3, 16, 16), torch.ones(1, 16, 16)
theirs = v2.RandomErasing(p=1.)(tv_tensors.Image(image), tv_tensors.Mask(mask))
other = K.AugmentationSequential(K.RandomErasing(p=1.), data_keys=['input', 'mask'])(image[None], mask[None])
for name, (picture, target) in dict(torchvision=theirs, kornia=other).items(): print(name, 'erased pixels:', int((picture == 0).sum() / 3), 'of the mask:', int((target == 0).sum()))
assert (theirs[0] == 0).any() and (theirs[1] == 1).all()
assert (other[0][:, :1] == 0).equal(other[1] == 0) and (other[1] == 0).any()
PY
