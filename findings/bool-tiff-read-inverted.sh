#!/usr/bin/env bash
# A bool mask is written as TIFF by one library and read by four others.
# Expected: the pixels that were True are True (or 255) for all of them.
# Seen (tifffile 2026.3.3, Pillow 12.3.0, opencv-python-headless 4.12.0.88, rasterio 1.4.4): tifffile stores True as 1 and marks the file "0 is white". Pillow and OpenCV obey the mark and show the inverse,
# so 36 true pixels of 256 become 220; tifffile itself and rasterio ignore it and give the mask back.
# With photometric='minisblack' all four agree.
# Where it matters: masks that change hands between microscopy, mapping and training tools. The inverse of a mask raises no error and trains.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tifffile==2026.3.3 pillow==12.3.0 opencv-python-headless==4.12.0.88 rasterio==1.4.4 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import cv2
import numpy as np
import rasterio
import tifffile
from PIL import Image

mask = np.zeros((16, 16), bool)
mask[3:9, 4:10] = True
def read_by_four(name):
    with rasterio.open(name) as file: mapped = int((file.read(1) > 0).sum())
    return dict(tifffile=int((tifffile.imread(name) > 0).sum()), rasterio=mapped, pillow=int(np.array(Image.open(name)).sum()), opencv=int((cv2.imread(name, cv2.IMREAD_UNCHANGED) > 0).sum()))
tifffile.imwrite('mask.tif', mask)
tifffile.imwrite('marked.tif', mask, photometric='minisblack')
found, marked = read_by_four('mask.tif'), read_by_four('marked.tif')
print('true pixels written:', int(mask.sum()), '| read:', found, "| with photometric='minisblack':", marked)
assert found == dict(tifffile=36, rasterio=36, pillow=220, opencv=220)
assert set(marked.values()) == {36}
PY
