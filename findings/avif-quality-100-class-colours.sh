#!/usr/bin/env bash
# A mask in class colours is saved as AVIF with quality=100 and full colour resolution; a grey mask beside it.
# Expected: quality 100 keeps every value, as it does for the grey mask.
# Seen (Pillow 12.3.0): the grey mask is exact. Of the two class colours not one pixel is (128, 0, 0 is read as 129, 0, 0): RGB goes through a rounded
# luminance and colour transform, and quality 100 is not lossless for it. A look-up by exact colour finds neither class; the nearest colour finds every pixel.
# Where it matters: folders of masks converted "without loss" to save space. Convert class numbers, not class colours, or stay with PNG.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pillow==12.3.0 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import io

import numpy as np
from PIL import Image

labels = np.zeros((64, 64), np.uint8)
labels[10:40, 12:50], labels[30:60, 30:60] = 1, 2
colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
def through_avif(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, 'AVIF', quality=100, **options)
    return np.array(Image.open(file))
grey, read = through_avif(labels), through_avif(colours[labels], subsampling='4:4:4')
exact = [float((read[labels == k] == colours[k]).all(-1).mean()) for k in range(3)]
nearest = np.abs(read[:, :, None].astype(int) - colours).sum(-1).argmin(-1)
print('grey mask exact:', (grey == labels).all(), '| share of exact pixels by class:', exact, '| nearest colour right:', (nearest == labels).mean())
assert (grey == labels).all() and exact[1] == 0 and (nearest == labels).all()
PY
