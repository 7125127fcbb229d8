#!/usr/bin/env bash
# A 16-bit instance mask is read with torchvision and used as a mask: resized, cut, compared, its largest number asked for.
# Expected: all of it works, or reading refuses the type.
# Seen (torchvision 0.29.1, torch 2.14.1): the file is read as torch.uint16; resizing, turning and `==` work, `>` and max() do not exist for the type and raise NotImplementedError.
# v2.ToDtype(torch.int64) leaves the mask as it is, because a single type is meant for images only.
# Where it matters: a pipeline runs until the first metric or plot. Convert with .to(torch.int64), or read with Pillow.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 pillow==12.3.0 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import warnings

import numpy as np
import torch
from PIL import Image
from torchvision import io, tv_tensors
from torchvision.transforms import v2

warnings.simplefilter('ignore')
Image.fromarray((np.arange(64).reshape(8, 8) * 100).astype(np.uint16)).save('instances.png')
mask = tv_tensors.Mask(io.decode_image('instances.png'))
def works(f):
    try: f()
    except NotImplementedError: return False
    return True
found = {name: works(f) for name, f in {'resize': lambda: v2.Resize((4, 4))(mask), 'rotate': lambda: v2.RandomRotation((30, 30))(mask), '== 300': lambda: mask == 300, '> 300': lambda: mask > 300, 'max()': lambda: mask.max()}.items()}
print(mask.dtype, found, 'after ToDtype(int64):', v2.ToDtype(torch.int64)(mask).dtype)
assert mask.dtype == torch.uint16 and v2.ToDtype(torch.int64)(mask).dtype == torch.uint16
assert found == {'resize': True, 'rotate': True, '== 300': True, '> 300': False, 'max()': False}
PY
