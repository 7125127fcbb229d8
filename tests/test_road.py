"The notebooks that a student reads first: a picture early, lines that fit, figures with captions, conclusions; and what `start` shows."
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

ROAD = ['start', '00_data', '01_blocks', '02_factory', '03_losses', '04_training']


def read(name):
    return nbformat.read(ROOT / 'nbs' / f'{name}.ipynb', as_version=4)


def pictures(cell):
    return [o for o in cell.get('outputs', []) if {'image/png', 'image/jpeg'} & set(o.get('data', {})) or '<img' in o.get('data', {}).get('text/html', '')]


@pytest.mark.parametrize('name', ROAD)
def test_the_first_picture_comes_within_250_words(name):
    words = 0
    for cell in read(name).cells:
        if cell.cell_type == 'markdown': words += len(cell.source.split())
        elif pictures(cell): break
    else: pytest.fail('no picture at all')
    assert words <= 250


@pytest.mark.parametrize('name', [*ROAD, 'beyond', 'workshop/views/architecture'])
def test_code_lines_fit_a_page(name):
    lines = [line for cell in read(name).cells if cell.cell_type == 'code' for line in cell.source.splitlines() if not line.startswith('#|')]
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize('name', ROAD)
def test_figures_are_labelled_captioned_and_sharp(name):
    labels = []
    for cell in read(name).cells:
        for output in pictures(cell):
            if 'text/html' in output['data']: continue  # the twin has captions of its own
            labels += re.findall(r'^#\| label: (fig-[\w-]+)$', cell.source, re.M)
            assert re.search(r'^#\| fig-cap: "', cell.source, re.M) and re.search(r'^#\| fig-alt: "', cell.source, re.M), cell.source[:80]
            if 'image/png' in output['data']: assert output['metadata']['image/png']['width'] > 100, 'twice the pixels, and the size to show it at'
    assert len(labels) >= 4 and len(labels) == len(set(labels))


@pytest.mark.parametrize('name', ROAD)
def test_conclusions_are_computed(name):
    nb = read(name)
    said = [o['data']['text/markdown'] for c in nb.cells if c.cell_type == 'code' for o in c.outputs if 'text/markdown' in o.get('data', {}) and '**In short:**' in o['data']['text/markdown']]
    assert len(said) >= 2 and all(re.search(r'\d', sentence) for sentence in said)
    assert not any('In short' in c.source for c in nb.cells if c.cell_type == 'markdown')


@pytest.mark.parametrize('name', ROAD)
def test_terms_are_linked_once_where_they_are_met_first(name):
    links = re.findall(r'\(glossary\.ipynb#([^)]+)\)', '\n'.join(c.source for c in read(name).cells if c.cell_type == 'markdown'))
    assert links and len(links) == len(set(links))


@pytest.mark.parametrize('name', ROAD)
def test_nothing_of_the_tests_stands_in_the_readers_way(name):
    code = '\n'.join(c.source for c in read(name).cells if c.cell_type == 'code')
    assert 'TINY' not in code and 'UNET_COURSE' not in code and 'environ.get' not in code
    for cell in read(name).cells:
        if '@exercise' in cell.source: assert cell.source.startswith('#| code-fold: true\n'), 'a check is folded'


@pytest.fixture(scope='module')
def start():
    "The names that `start` has defined when its reader turns the switches."
    names, cells = {}, {c.id: c.source for c in read('start').cells}
    for id in ('start_imports', 'start_photo', 'start_darkened', 'start_look'):
        exec('\n'.join(line for line in cells[id].splitlines() if not line.startswith('%')), names)
    return names


def test_start_darkens_what_is_not_the_pet(start):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[1:3, 2:4] = 255
    seen = np.asarray(start['darkened'](photo, Image.fromarray(mask)))
    assert (seen[mask > 0] == np.asarray(photo)[mask > 0]).all() and (seen[mask == 0] == np.asarray(photo)[mask == 0] // 4).all()


def test_start_shows_another_mask_for_another_network(start):
    seen = {modes: np.asarray(start['look'](*modes)) for modes in (('mp', 'tr', 'dice'), ('str_conv', 'tr', 'dice'), ('mp', 'ups', 'dice'), ('mp', 'tr', 'bce'))}
    assert {picture.shape for picture in seen.values()} == {(*start['photo'].size[::-1], 3)}
    assert len({picture.tobytes() for picture in seen.values()}) == 4
    assert (np.asarray(start['look']()) == seen['mp', 'tr', 'dice']).all()
