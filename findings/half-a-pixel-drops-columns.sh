#!/usr/bin/env bash
# A mask is moved by half a pixel with nearest neighbour.
# Expected: every column once, moved by 0 or by 1 pixel; half a pixel cannot be seen.
# Seen (torchvision 0.29.1, torch 2.14.1): every second column is gone and its neighbour stands there twice: 0 1 2 3 4 5 6 7 becomes 0 0 2 2 4 4 6 6. grid_sample rounds half to
# even, so the places 0.5, 1.5, 2.5, ... all go to even columns. By 0.4 or 0.6 of a pixel nothing is lost.
# Where it matters: augmentation with a fixed grid of shifts, flips about a pixel's edge, and networks that warp masks: one-pixel-wide things vanish or double.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import affine

columns = torch.arange(8, dtype=torch.uint8).expand(1, 4, 8).contiguous()
def moved(by): return affine(columns, angle=0, translate=[by, 0], scale=1, shear=[0, 0])[0, 0].tolist()
for by in (.4, .5, .6): print(f'by {by}:', moved(by))
assert moved(.5) == [0, 0, 2, 2, 4, 4, 6, 6]
assert moved(.4) == list(range(8)) and moved(.6)[1:] == list(range(7))
grid = F.affine_grid(torch.tensor([[[1, 0, 1 / 8], [0, 1, 0]]]), (1, 1, 4, 8), align_corners=False)
assert F.grid_sample(columns[None].float(), grid, mode='nearest', padding_mode='border', align_corners=False)[0, 0, 0].tolist() == [0, 2, 2, 4, 4, 6, 6, 7]
PY
