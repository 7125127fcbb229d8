"""The views of the inside in a real browser: by mouse, by keyboard and on a phone, against what Python computes; three networks are enough.

    python tools/get_runtime.py && pytest -m browser tests/test_playground_inside.py"""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from test_inside import GRIDS, LADDERS, grids, ladders
from test_playground import MISSING, PLACE, Seen, browser, chromium, first_run, keep_screenshot, page, predicted, ready, server  # noqa: F401
from unet_course.factory import create_model
from unet_course.prediction import Segmenter, load_pretrained
from unet_course.support.pictures import open_photo
from unet_course.views.inside import LOUPE, READOUT, Gained, auc, grid_meaning, grid_ratio, grid_sentence, known_inside, ladder, ladder_meaning, ladder_sentence, loupe, read_out, stage_names, stages, unpack_readouts
from unet_course.views.page import write_playground

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
NETS = ['mp-tr-bce', 'mp-ups-bce', 'mp-tr-dice']
PANEL = "document.querySelector('.playground').playground.inside"


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return write_playground(NETS, tmp_path_factory.mktemp('site'), PLACE)


@pytest.fixture(scope='module')
def seen():
    "What Python sees inside the networks for the first sample."
    photo, found = open_photo(ROOT / 'nbs/playground/chelsea.jpg'), {}
    for name in NETS:
        segmenter = load_pretrained(*name.split('-'))
        with torch.inference_mode(): found[name] = stages(segmenter.model, segmenter.square(photo))
    return found


def said(page, words='In short'):
    page.wait_for_function('words => document.querySelector(".pg-inside-said")?.textContent.includes(words)', arg=words)
    return page.locator('.pg-inside-said').inner_text()


def look(page, view):
    if page.locator('.pg-inside').get_attribute('open') is None: page.locator('.pg-inside summary').click()
    page.locator(f'[name=pg-inside][value={view}]').check()


def figures(page): return [f.locator('figcaption').inner_text() for f in page.locator('.pg-inside-view figure').all()]


def pixels(page, index):
    found = page.locator('.pg-inside-view canvas').nth(index).evaluate('c => ({width: c.width, height: c.height, data: [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]})')
    return np.array(found['data'], np.uint8).reshape(found['height'], found['width'], 4)[..., :3]


def test_closed_it_loads_and_computes_nothing(page):
    page.evaluate('''() => { const {Networks} = window, P = document.querySelector('.playground').playground, run = P.networks.run.bind(P.networks); window.asked = [];
        P.networks.run = (variant, backend, tensor, gain, more) => { window.asked.push([gain ?? null, more ?? null]); return run(variant, backend, tensor, gain, more); }; }''')
    first_run(page)
    assert page.evaluate('window.asked') == [[None, None]] and not [url for url in page.seen.requests if 'inside' in url]
    look(page, 'loupe')
    said(page)
    assert [Path(url).name for url in page.seen.requests if 'inside' in url] == ['inside.js', 'inside.json']
    assert page.evaluate('window.asked.at(-1)') == [None, ['up1', 'conv1', 'decoder1']], 'only what is shown is fetched'
    page.locator('.pg-inside summary').click()
    count = page.evaluate('window.asked.length')
    page.locator('[name=pg-a-loss][value=dice]').check()
    predicted(page, 'a', 'mp-tr-dice')
    assert page.evaluate('window.asked.length') == count + 1 and page.evaluate('window.asked.at(-1)') == [None, None]


def test_the_loupe_shows_what_python_sees(page, seen):
    first_run(page)
    look(page, 'loupe')
    said(page)
    assert figures(page)[0] == 'picture' and len(figures(page)) == 5 and page.locator('.pg-other').inner_text() == 'Compare with ups: mp-ups-bce'
    page.locator('.pg-other').click()
    predicted(page, 'b', 'mp-ups-bce')
    page.wait_for_function('document.querySelectorAll(".pg-inside-view figure").length === 10')
    ratios = {name: {stage: grid_ratio(seen[name][stage]).item() for stage in LOUPE} for name in ('mp-tr-bce', 'mp-ups-bce')}
    assert said(page) == grid_sentence(ratios)
    assert page.locator('.pg-inside-hint').inner_text() == grid_meaning(24)
    captions = [re.fullmatch(r'(.*): ([\d.]+), (grid|no grid)', text.replace('\xad', '')) for text in figures(page) if text != 'picture']
    assert [c[3] for c in captions] == ['grid' if ratio >= 2 else 'no grid' for row in ratios.values() for ratio in row.values()]
    assert np.allclose([float(c[2]) for c in captions], [ratio for row in ratios.values() for ratio in row.values()], rtol=.01, atol=.006)
    assert page.evaluate('document.activeElement.name') == 'pg-inside', 'the button went, the focus did not'
    row, column = page.evaluate(f'[{PANEL}.row, {PANEL}.column]')
    for index, stage in ((1, 'up1'), (2, 'conv1'), (3, 'decoder1'), (4, 'logits')):
        cut = seen['mp-tr-bce'][stage][0].mean(0)[row:row + 24, column:column + 24].numpy()
        ours = pixels(page, index)[..., 0].astype(float)
        assert ours.shape == (24, 24) and np.abs(ours - 255 * (cut - cut.min()) / (cut.max() - cut.min())).max() < 2
    keep_screenshot(page, 'inside_loupe')


def test_the_sentences_are_pythons(page):
    for name, cases, say in (('gridSentence', GRIDS, lambda rows: [grids(rows)]), ('ladderSentence', LADDERS, lambda rows: [ladders(rows), 7])):
        for rows, said in cases:
            assert page.evaluate(f"async all => (await import('./inside.js')).{name}(...all)", say(rows)).endswith(f': {said}')
    for depth in (2, 4):
        for deepest in (True, False):
            assert page.evaluate("async all => (await import('./inside.js')).ladder(...all)", [depth, deepest]) == [[name, list(gains)] for name, gains in ladder(depth, deepest).items()]
    assert page.evaluate("async () => (await import('./inside.js')).ladderMeaning(96, 4)") == ladder_meaning(96, 4)


def test_a_newcomer_finds_the_inside(page):
    "One line by the first result leads there; what the panel says in short is then on the screen, of any size."
    way = page.locator('.pg-to-inside')
    assert way.is_hidden(), 'there is nothing to look into yet'
    for width, height in ((1366, 768), (390, 844)):
        page.set_viewport_size(dict(width=width, height=height))
        if width == 1366: first_run(page)
        assert way.bounding_box()['y'] < page.locator('[data-panel=a]').bounding_box()['y']
        way.focus()
        page.keyboard.press('Enter')
        said(page)
        page.wait_for_function('() => { const box = document.querySelector(".pg-inside-said").getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; }')
        assert page.evaluate('document.activeElement.tagName') == 'SUMMARY'
        assert page.locator('.pg-inside-said').bounding_box()['y'] < page.locator('[name=pg-inside]').first.bounding_box()['y'], 'above the views'
        page.evaluate('scrollTo(0, 0)')


def test_the_second_network_differs_in_the_up_mode(page):
    name = page.locator('[data-network=b] .pg-name')
    assert name.inner_text() == 'Compare with mp-ups-bce'
    page.locator('[name=pg-a-up][value=ups]').check()
    assert name.inner_text() == 'Compare with mp-tr-bce'
    page.locator('.pg-compare').check()
    page.locator('[name=pg-b-loss][value=dice]').check()
    page.locator('.pg-compare').uncheck()
    page.locator('[name=pg-a-up][value=tr]').check()
    assert name.inner_text() == 'Compare with mp-tr-dice', 'what the reader chose stays'


def test_untrained_networks_are_stored_for_the_samples(page, folder):
    files = sorted((folder / 'samples').glob('*-untrained.png'))
    print([path.stat().st_size for path in files], 'bytes for two rows')
    assert sum(path.stat().st_size for path in files) <= len(files) * 2 * 1500
    sample = json.loads((folder / 'manifest.json').read_text())['samples'][0]['untrained']
    assert sample['rows'] == {'mp-tr-bce': 0, 'mp-ups-bce': 1, 'mp-tr-dice': 0}, 'networks that differ in the loss begin alike'
    first_run(page)
    look(page, 'loupe')
    page.locator('.pg-other').click()
    predicted(page, 'b')
    assert not [url for url in page.seen.requests if 'untrained' in url]
    page.locator('.pg-untrained').focus()
    page.keyboard.press('Space')
    ratios, photo = {}, open_photo(ROOT / 'nbs/playground/chelsea.jpg')
    for name in ('mp-tr-bce', 'mp-ups-bce'):
        one = load_pretrained(*name.split('-'))
        with torch.inference_mode(): inside = stages(create_model(one.model.config, seed=0).eval(), one.square(photo))
        views = loupe(inside, sample['row'], sample['column'], 24)
        ratios[f'untrained {name}'] = {stage: ratio for stage, (_, ratio) in views.items()}
        page.wait_for_function('name => [...document.querySelectorAll(".pg-inside-name")].some(p => p.textContent === name)', arg=f'untrained {name}')
        for k, (grey, _) in enumerate(views.values()):
            ours = pixels(page, 5 * (len(ratios) - 1) + 1 + k)[..., 0]
            assert np.array_equal(ours, grey // 16 * 17), 'in 16 greys'
    assert said(page) == grid_sentence(ratios)
    assert page.locator('.pg-inside-row').is_disabled() and page.evaluate('document.activeElement.className') == 'pg-untrained'
    page.keyboard.press('Space')
    assert 'untrained' not in said(page, '; mp-ups-bce has') and page.locator('.pg-inside-row').is_enabled()
    page.locator('.pg-untrained').check()
    page.locator('.pg-file').set_input_files(files=[dict(name='own.png', mimeType='image/png', buffer=(ROOT / 'nbs/playground/chelsea.jpg').read_bytes())])
    said(page, 'chapter 01')


def test_the_loupe_is_moved_by_mouse_and_keyboard_without_a_new_pass(page):
    first_run(page)
    look(page, 'loupe')
    said(page)
    page.evaluate("() => { const P = document.querySelector('.playground').playground; window.passes = 0; const run = P.networks.run.bind(P.networks); P.networks.run = (...all) => { window.passes += 1; return run(...all); }; }")
    before = pixels(page, 1)
    box = page.locator('.pg-thumb').bounding_box()
    page.mouse.move(box['x'] + 5, box['y'] + 5)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] - 3, box['y'] + box['height'] - 3, steps=3)
    page.mouse.up()
    most = page.evaluate(f'{PANEL}.size - 24')
    assert page.evaluate(f'[{PANEL}.row, {PANEL}.column]') == [most, most] and not np.array_equal(before, pixels(page, 1))
    page.locator('.pg-inside-row').focus()
    page.keyboard.press('Home')
    page.locator('.pg-inside-column').focus()
    page.keyboard.press('ArrowLeft')
    assert page.evaluate(f'[{PANEL}.row, {PANEL}.column]') == [0, most - 1] and page.evaluate('window.passes') == 0
    assert min(page.evaluate(f'{PANEL}.draw(), {PANEL}.painted') for _ in range(5)) < 20, 'milliseconds'


def test_readouts_are_pythons(page, seen):
    first_run(page)
    look(page, 'readouts')
    page.wait_for_function('document.querySelectorAll(".pg-inside-view canvas").length === 9')
    kept = unpack_readouts(known_inside()['networks']['mp-tr-bce']['readout'])
    for (name, (weights, bias, score)), text, index in zip(zip(stage_names(4), kept), figures(page), range(9)):
        assert text == f'{name}, AUC {score:.2f}'
        ours = page.evaluate(f'''async i => {{ const {{readOut}} = await import('./inside.js'), r = document.querySelector('.playground').playground.state.results.a.readouts[i]; return [...readOut(r.data, r.dims, r)]; }}''', index)
        assert np.abs(np.array(ours) - read_out(seen['mp-tr-bce'][name][0], weights, bias).ravel()).max() < 1e-3, name
    assert page.locator('.pg-inside-hint').inner_text() == READOUT
    label = page.locator('.pg-inside-view canvas').nth(4).get_attribute('aria-label')
    assert re.fullmatch(r'mp-tr-bce, bottleneck: 256 channels of \d+ × \d+, readout AUC 0\.\d\d', label)
    tops = [box['y'] for box in (figure.bounding_box() for figure in page.locator('.pg-u figure').all())]
    assert tops[0] == tops[8] < tops[1] == tops[7] < tops[2] == tops[6] < tops[3] == tops[5] < tops[4], 'a row is a resolution'
    assert 'over 100 validation photos' in said(page) and f'{kept[4][2]:.2f} in the bottleneck' in said(page)
    keep_screenshot(page, 'inside_readouts')


def test_skips_are_switched_and_rebuilt(page):
    photo, segmenter = open_photo(ROOT / 'nbs/playground/chelsea.jpg'), load_pretrained('mp', 'tr', 'bce')
    logits = "[...document.querySelector('.playground').playground.state.results.a.logits]"
    def wanted(gains): return Segmenter(Gained(segmenter.model, gains), segmenter.size).logits(photo).numpy().ravel()
    def close(gains): page.wait_for_function(f'wanted => {logits}.every((v, i) => Math.abs(v - wanted[i]) < 2e-3)', arg=wanted(gains).tolist())
    first_run(page)
    look(page, 'skips')
    close((1, 1, 1, 1))
    page.locator('.pg-skip[value="1"]').uncheck()
    close((0, 1, 1, 1))
    assert 'Skip connections on: 4, 3, 2;' in said(page, 'on: 4, 3, 2')
    page.locator('.pg-skip[value="4"]').focus()
    page.keyboard.press('Space')
    close((0, 1, 1, 0))
    page.locator('.pg-all-on').click()
    close((1, 1, 1, 1))
    page.locator('.pg-rebuild').focus()
    page.keyboard.press('Enter')
    page.wait_for_function('document.querySelectorAll(".pg-inside-view figure").length === 5')
    assert figures(page) == list(ladder(4))
    steps = page.evaluate(f'{PANEL}.steps.map(step => [...step.values])')
    for ours, gains in zip(steps, ladder(4).values()): assert np.abs(np.array(ours) - 1 / (1 + np.exp(-wanted(gains)))).max() < 1e-3
    rungs = known_inside()['networks']['mp-tr-bce']['ladder']
    assert said(page, 'validation photos').startswith(ladder_sentence({'mp-tr-bce': known_inside()['networks']['mp-tr-bce']}, known_inside()['checked']))
    def table(): return [line.split('\t') for line in page.locator('.pg-ladder tbody').inner_text().splitlines()]
    assert table() == [[r['skips'], f"{r['iou']:.2f}", f"{r['boundary']:.2f}"] for r in rungs]
    assert page.locator('.pg-inside-hint').first.inner_text() == ladder_meaning(segmenter.size, 4)
    keep_screenshot(page, 'inside_skips')
    page.locator('.pg-rebuild-up').click()
    page.wait_for_function('''() => [...document.querySelectorAll(".pg-inside-view figcaption")].map(c => c.textContent).join() === "none,1,1+2,1+2+3,all"''')
    assert [row[0] for row in table()] == list(ladder(4, False))
    close((1, 1, 1, 1))
    page.locator('.pg-skip[value="2"]').uncheck()
    close((1, 0, 1, 1))
    page.locator('.pg-inside summary').click()
    close((1, 1, 1, 1))  # closed, the masks are those of the whole network


def test_the_grey_square(page):
    first_run(page)
    look(page, 'square')
    text = said(page, 'change by more than')
    segmenter, photo = load_pretrained('mp', 'tr', 'bce'), open_photo(ROOT / 'nbs/playground/chelsea.jpg')
    from unet_course.views.inside import far_share, grey_square
    row, column = page.evaluate(f'[{PANEL}.row, {PANEL}.column]')
    _, change = grey_square(segmenter.model, segmenter.square(photo), row, column, 24)
    near, far = (float(x) for x in re.findall(r'([\d.]+) %', text))
    assert abs(near - 100 * (np.abs(change) > .1).mean()) < .3 and abs(far - 100 * far_share(change, row, column, 24)) < .3
    page.locator('.pg-inside-row').focus()
    page.keyboard.press('End')
    page.wait_for_function('old => document.querySelector(".pg-inside-said").textContent !== old', arg=text)
    page.locator('.pg-compare').check()  # and of the second network, under its name
    page.wait_for_function('() => document.querySelectorAll(".pg-pair").length === 2')
    assert all(f'0.1 in {name}, ' in said(page, 'change by more than') for name in page.locator('.pg-inside-view .pg-inside-name').all_inner_texts())


def test_a_link_opens_a_view(page, server):
    page.goto('about:blank')
    page.goto(server + 'index.html#down=mp&up=ups&view=loupe')
    ready(page)
    page.get_by_role('button', name='Run the network').click()
    predicted(page, 'a', 'mp-ups-bce')
    predicted(page, 'b', 'mp-tr-bce')
    assert 'mp-ups-bce has' in said(page) and 'mp-tr-bce has' in said(page)
    assert page.locator('.pg-inside').get_attribute('open') is not None


def test_the_address_follows_the_page_and_the_page_the_address(page, server):
    state = "(({variants, compare, picture}) => [variants.a, compare && variants.b, picture.sample?.name])(document.querySelector('.playground').playground.state)"
    hash_is = lambda wanted: page.wait_for_function('wanted => location.hash === wanted', arg=wanted)
    assert '#' not in page.url, 'nobody has chosen anything'
    first_run(page)
    page.locator('[name=pg-a-up][value=ups]').check()
    hash_is('#down=mp&up=ups&loss=bce&b=&picture=chelsea')
    look(page, 'skips')
    hash_is('#down=mp&up=ups&loss=bce&b=&picture=chelsea&view=skips')
    page.locator('[data-sample=pet7]').click()
    hash_is('#down=mp&up=ups&loss=bce&b=&picture=pet7&view=skips')
    # a link on the page, and back to a state that was kept
    kept = page.evaluate('location.href')
    page.evaluate("location.hash = '#down=mp&up=tr&loss=dice&b=mp-ups-bce&picture=coffee&view=square'")
    predicted(page, 'a', 'mp-tr-dice')
    predicted(page, 'b', 'mp-ups-bce')
    assert page.evaluate(state) == ['mp-tr-dice', 'mp-ups-bce', 'coffee'] and page.locator('[name=pg-inside]:checked').get_attribute('value') == 'square'
    assert page.locator('[name=pg-a-loss][value=dice]').is_checked() and page.locator('[name=pg-b-up][value=ups]').is_checked() and page.locator('.pg-compare').is_checked()
    page.goto('about:blank')
    page.goto(kept)
    ready(page)
    predicted(page, 'a', 'mp-ups-bce')
    assert page.evaluate(state) == ['mp-ups-bce', False, 'pet7'] and page.locator('[name=pg-inside]:checked').get_attribute('value') == 'skips'
    page.evaluate("location.hash = '#a-place-on-the-page'")
    page.locator('.pg-inside summary').click()
    hash_is('#down=mp&up=ups&loss=bce&b=&picture=pet7')
    page.goto('about:blank')
    page.goto(server + 'index.html#view=nonsense&up=nonsense')
    ready(page)
    assert page.evaluate(state)[0] == 'mp-tr-bce' and page.locator('[name=pg-inside]:checked').get_attribute('value') == 'loupe'


def test_all_networks_are_stored_for_the_samples(page, folder):
    "Without a network: before the first click on Run."
    manifest = json.loads((folder / 'manifest.json').read_text())
    files = sorted((folder / 'samples').glob('*-all.png'))
    print(sum(path.stat().st_size for path in files) * 8 // len(NETS), 'bytes for eight networks')
    assert len(files) == len(manifest['samples']) and sum(path.stat().st_size for path in files) * 8 / len(NETS) <= 52_000
    assert not [url for url in page.seen.requests if '-all.png' in url]
    page.locator('[data-sample=pet8]').click()
    page.wait_for_function('document.querySelector(".playground").playground.state.picture.sample?.name === "pet8"')
    look(page, 'eight')
    words = said(page)
    sample = next(row for row in manifest['samples'] if row['name'] == 'pet8')
    for k, name in enumerate(NETS):
        one = load_pretrained(*name.split('-'))
        with Image.open(folder / sample['file']) as photo: mask = one.logits(photo).numpy() > 0
        assert sample['all']['share'][k] == pytest.approx(mask.mean(), abs=1e-4)
        assert figures(page)[k].startswith(f'{name}: {100 * mask.mean():.1f} % pet, IoU')
        bright = pixels(page, k).max(-1)
        assert bright[mask].min() >= 102 and bright[~mask].max() < 102, 'the mask is what is light'
    scores, tests = sample['all']['iou'], [manifest['models'][name]['test']['iou'] for name in NETS]
    assert f'from {min(scores):.2f} to {max(scores):.2f}' in words and f'from {min(tests):.2f} to {max(tests):.2f}' in words and '3,669 test photos' in words
    assert not [url for url in page.seen.requests if url.endswith(('.onnx', '.wasm'))]
    page.locator('[data-sample=coffee]').click()
    assert 'of this picture pet' in said(page, 'of this picture')
    page.locator('.pg-file').set_input_files(files=[dict(name='own.png', mimeType='image/png', buffer=(ROOT / 'nbs/playground/chelsea.jpg').read_bytes())])
    said(page, 'explore()')
    assert figures(page) == []
    keep_screenshot(page, 'inside_all')


def test_a_pass_with_an_open_panel_and_a_switch_cost_little(page):
    first_run(page)
    look(page, 'readouts')
    page.wait_for_function('document.querySelectorAll(".pg-inside-view canvas").length === 9')
    times = page.evaluate('''async () => { const {networks, state, manifest} = document.querySelector('.playground').playground, {size} = manifest.models['mp-tr-bce'], all = {plain: [], loupe: [], readouts: [], switched: []};
        const stages = document.querySelector('.playground').playground.inside.wanted(), x = new Float32Array(3 * size * size).map(() => Math.random());
        for (let i = 0; i < 21; i++) for (const [name, gain, more] of [['plain'], ['loupe', undefined, ['up1', 'conv1', 'decoder1']], ['readouts', undefined, stages], ['switched', [0, 1, 0, 1]]])
            all[name].push((await networks.run('mp-tr-bce', state.backend, x, gain, more)).milliseconds);
        return Object.fromEntries(Object.entries(all).map(([name, list]) => [name, list.sort((a, b) => a - b)[5]])); }''')  # the lower quartile: other work on the machine only adds
    print({name: f'{value:.0f} ms, {value / times["plain"]:.2f}' for name, value in times.items()})
    assert times['loupe'] <= 1.15 * times['plain'] + 3 and times['readouts'] <= 1.3 * times['plain'] + 3 and times['switched'] <= 2.2 * times['plain']


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'light'), (390, 'dark')])
def test_it_fits_and_is_accessible(browser, server, width, scheme):
    context = browser.new_context(viewport=dict(width=width, height=844), color_scheme=scheme)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.goto(server + 'index.html#view=loupe')
    ready(opened)
    opened.get_by_role('button', name='Run the network').click()
    predicted(opened, 'b')
    axe = ROOT / '_axe/axe.min.js'
    for view in ('loupe', 'readouts', 'skips', 'square', 'eight'):
        opened.locator(f'[name=pg-inside][value={view}]').check()
        if view == 'skips': opened.locator('.pg-rebuild').click()
        count = dict(loupe=10, readouts=18, skips=10, square=4, eight=len(NETS))[view]
        opened.wait_for_function('([kind, count]) => document.querySelectorAll(".pg-inside-view " + kind).length === count', arg=['.pg-u canvas' if view == 'readouts' else '.pg-loupe canvas', count])
        said(opened)
        assert opened.evaluate('document.documentElement.scrollWidth <= innerWidth'), f'{view} sticks out'
        small = opened.evaluate('''() => [...document.querySelectorAll('.pg-inside button, .pg-inside .pg-pill, .pg-inside summary')].filter(n => n.offsetParent).map(n => [n.getBoundingClientRect().height, n.textContent]).filter(([h]) => h < 24)''')
        assert small == []
        if view == 'loupe':  # and before its training
            opened.locator('.pg-untrained').check()
            said(opened, 'untrained')
            keep_screenshot(opened, f'inside_untrained_{width}_{scheme}')
            opened.locator('.pg-untrained').uncheck()
        if axe.is_file():
            opened.evaluate(axe.read_text(encoding='utf-8'))
            opened.evaluate('Promise.all(document.getAnimations().map(one => one.finished))')  # a colour on its way has no contrast of its own
            wrong = opened.evaluate("async () => (await axe.run('.playground')).violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 100))])")
            assert wrong == [], (view, wrong)
        keep_screenshot(opened, f'inside_{view}_{width}_{scheme}')
    context.close()
