#!/usr/bin/env bash
# The connected parts of a bool mask, with the corners counted as neighbours (connectivity=8). One pet that touches the lower edge of a picture of 333 x 500.
# Expected: labels on the mask's own pixels and 0 elsewhere. The library's text says that zero is the background, and offers 8 for every image of two dimensions.
# Seen (connected-components-3d 4.1.1): 68 pixels of the background, a strip in row 125, bear the pet's label; the mask starts in row 231. The box of the object begins a
# hundred rows too high, and "the largest object" is no longer part of the mask. It takes an odd side: 332 x 500 is right. So are connectivity=4, the default
# (26, which joins corners too) and the same mask as uint8. Nothing is said, and the number of objects is right.
# Where it matters: post-processing that keeps the largest object, boxes made from masks, areas per object. Many photographs have an odd side.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q connected-components-3d==4.1.1 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import cc3d
import numpy as np

def pet_of(width):
    rows, columns = np.mgrid[:500, :width]
    return ((rows - 380) / 150) ** 2 + ((columns - 160) / 110) ** 2 < 1

def strays(mask, **options): return int((cc3d.connected_components(mask, **options)[mask == 0] > 0).sum())

pet = pet_of(333)
labels, objects = cc3d.connected_components(pet, connectivity=8, return_N=True)
largest = cc3d.largest_k(pet, k=1, connectivity=8) > 0
first, top = np.nonzero(pet)[0].min(), cc3d.statistics(labels)['bounding_boxes'][1][0].start
print('objects:', objects, '| labelled background pixels:', strays(pet, connectivity=8), '| first row of the mask:', first, 'of the box:', top, '| largest object outside the mask:', (largest & ~pet).sum())
assert objects == 1 and strays(pet, connectivity=8) == (largest & ~pet).sum() == 68 and top == 125 and first == 231
small = np.zeros((5, 2), bool)
small[4] = True
print(cc3d.connected_components(small, connectivity=8))
assert strays(small, connectivity=8) == 1
assert strays(pet_of(332), connectivity=8) == strays(pet, connectivity=4) == strays(pet) == strays(pet.astype(np.uint8), connectivity=8) == 0
PY
