"""Shared by all tests: an empty cache of decoded data, and the real dataset where it is found."""
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # small networks: two threads wait for each other, most of all beside another process
if sys.platform == 'linux': os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')  # processes that meet here need no name of this machine

import pytest
from hypothesis import settings

# The same examples in every run; EXPLORE=1 draws new ones.
settings.register_profile('same', derandomize=True)
if not os.environ.get('EXPLORE'): settings.load_profile('same')

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    "Every test decodes into a folder of its own."
    monkeypatch.setenv('UNET_COURSE_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def pets_root():
    "The folder that holds the real dataset, or a skip that says why."
    from unet_course.datasets.oxford_pets import data_root, find_pets
    if find_pets() is None: pytest.skip(f'the Oxford-IIIT Pet dataset is not in {data_root()} (set UNET_COURSE_DATA)')
    return data_root()
