"""The playground in a real browser: the static folder served on loopback, its runtime from beside the page.

    python tools/get_runtime.py && pytest -m browser tests/test_playground.py

Set UNET_COURSE_RUNTIME to a folder that holds onnxruntime-web's dist/ files instead, and SCREENSHOTS to one that keeps pictures of what was seen."""
import base64
import contextlib
import functools
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from conftest import ROOT
from unet_course.data import PET
from unet_course.datasets.synthetic import draw_pet
from unet_course.support.pictures import open_photo, to_rgb
from unet_course.experiments import FACTORIAL
from unet_course.prediction import Segmenter, load_pretrained, predict, predict_mask
from unet_course.views.page import SAMPLES, runtime_files, write_playground
from unet_course.factory import count_macs, count_parameters

CHROMIUM = next((path for path in ('/usr/bin/chromium', shutil.which('chromium'), shutil.which('chromium-browser'), shutil.which('google-chrome')) if path and Path(path).exists()), None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
RUNTIME = runtime_files()
FILES = [part['file'] for name in ('wasm', 'webgpu') for part in RUNTIME[name]]
PLACE = Path(os.environ.get('UNET_COURSE_RUNTIME') or ROOT / '_runtime')
ABSENT = [name for name in ('playwright', 'onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
MISSING = 'no chromium (apt-get install chromium)' if CHROMIUM is None else f'{", ".join(ABSENT)} missing (pip install ".[dev]")' if ABSENT else \
          f'no onnxruntime-web {RUNTIME["version"]} in {PLACE} (python tools/get_runtime.py, or set UNET_COURSE_RUNTIME)' if not all((PLACE / name).is_file() for name in FILES) else None
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
NETS = {v.id: v for v in FACTORIAL}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_playground(list(NETS), tmp_path_factory.mktemp('site'), PLACE)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


@pytest.fixture(scope='module')
def server(folder):
    "The folder on loopback; its address. `server.down` is a set of paths that are answered by 503."
    class Handler(Quiet):
        def do_GET(self):
            if any(word in self.path for word in address.down): self.send_error(503)
            else: super().do_GET()
    class Address(str): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=str(folder))) as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        address = Address(f'http://127.0.0.1:{opened.server_port}/')
        address.down = set()
        yield address
        opened.shutdown()
        thread.join()


@pytest.fixture(scope='module')
def chromium():
    "Playwright's way to start browsers."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright: yield playwright.chromium


@pytest.fixture(scope='module')
def browser(chromium):
    opened = chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield opened
    opened.close()


class Seen:
    "What a page asked for and complained about."
    def __init__(self, page):
        self.requests, self.complaints = [], []
        page.on('request', lambda r: self.requests.append(r.url))
        page.on('console', lambda m: self.complaints.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: self.complaints.append(str(e)))


@pytest.fixture
def page(browser, server, request):
    "The playground, ready, in a browser without a memory. Nothing may leave loopback and nothing may complain, unless the test takes that back."
    context = browser.new_context(viewport=dict(width=1280, height=900), color_scheme='light', accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.seen = Seen(opened)
    opened.goto(server + 'index.html')
    ready(opened)
    yield opened
    keep_screenshot(opened, f'end_{request.node.name}')
    context.close()
    assert not [url for url in opened.seen.requests if not url.startswith((server, 'blob:', 'data:'))]
    assert opened.seen.complaints == []


def ready(page): page.wait_for_selector('.playground[data-ready=yes]')


def keep_screenshot(page, name):
    if place := os.environ.get('SCREENSHOTS'): page.screenshot(path=str(Path(place, f'playground_{name}.png')), full_page=True)


@contextlib.contextmanager
def held(page, pattern):
    "Requests that match wait until the block is left."
    waiting = []
    page.route(pattern, lambda route: waiting.append(route))
    yield
    page.route(pattern, lambda route: route.continue_())
    for route in waiting: route.continue_()


def first_run(page):
    page.get_by_role('button', name='Run the network').click()
    predicted(page)


def predicted(page, net='a', variant=None):
    "Waits until the network's result is for the picture and the toggles as they are now."
    page.wait_for_function('''([net, variant]) => {
        const {state} = document.querySelector('.playground').playground, result = state.results[net];
        return result?.mask && result.for === state.picture.shown && result.variant === state.variants[net] && (!variant || result.variant === variant);
    }''', arg=[net, variant])


def choose(page, net, variant):
    for factor, level in zip(('down', 'up', 'loss'), variant.split('-')): page.locator(f'[name=pg-{net}-{factor}][value={level}]').check()
    predicted(page, net, variant)


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format='PNG')
    return buffer.getvalue()


def open_bytes(page, data: bytes, name='picture.png', kind='image/png'):
    "Gives the page a file as its file button does."
    page.locator('.pg-file').set_input_files(files=[dict(name=name, mimeType=kind, buffer=data)])
    page.wait_for_function('name => document.querySelector(".playground").playground.state.picture?.title === name', arg=name)


def mask_of(page, net='a') -> np.ndarray:
    found = page.evaluate('''net => { const {state} = document.querySelector('.playground').playground, {width, height} = state.picture.shown;
        return {width, height, bits: Array.from(state.results[net].mask).join('')}; }''', net)
    return (np.frombuffer(found['bits'].encode(), dtype=np.uint8) == ord('1')).reshape(found['height'], found['width'])


def pictures() -> list:
    "Twenty pictures: photos whole and in part, synthetic pets, noise; wide, tall, small and large, most of odd sizes."
    photos = [Image.open(ROOT / f'nbs/playground/{name}.jpg').convert('RGB') for name, _, _ in SAMPLES]
    found = [*photos, *(ImageOps.mirror(p) for p in photos), photos[0].crop((60, 20, 380, 290)), photos[0].rotate(90, expand=True), photos[1].crop((101, 53, 350, 399)), photos[0].resize((720, 479)), photos[0].resize((97, 61))]
    found += [Image.fromarray(draw_pet(5, i, size)[0]) for i, size in enumerate((64, 65, 130, 200, 255, 300, 384, 511))]
    found += [Image.fromarray(draw_pet(6, 0, 256)[0]).resize((701, 33)), Image.fromarray(draw_pet(6, 1, 256)[0]).resize((300, 500)), Image.effect_noise((150, 90), 80).convert('RGB')]
    assert len(found) == 20
    return found


SQUASHED = '''async () => { const {playground} = document.querySelector('.playground'), picture = playground.state.picture, size = playground.size('a');
    while (!picture.squashed.has(size)) await new Promise(r => setTimeout(r, 20)); return Array.from(picture.squashed.get(size)); }'''


def columns_first(image) -> bool:
    "Pillow 13 may take pictures as tall and narrow as this along the columns first, which moves some bytes by one."
    return image.height > 1.6 * image.width


def test_the_page_squashes_pictures_as_pillow_does(page):
    size = load_pretrained('mp', 'tr', 'bce').size
    for i, image in enumerate([*pictures(), pictures()[0].resize((35, 640))]):
        open_bytes(page, png(image), f'{i}.png')
        ours = np.array(page.evaluate(SQUASHED), dtype=np.uint8).reshape(size, size, 3)
        theirs = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - theirs).max() <= columns_first(image), (i, image.size)


def test_other_kinds_of_pictures_are_read_as_the_package_reads_them(page):
    size, image = load_pretrained('mp', 'tr', 'bce').size, Image.fromarray(draw_pet(5, 3, 200)[0]).resize((300, 260))
    clear = image.copy()
    clear.putalpha(Image.radial_gradient('L').resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = io.BytesIO()
    image.save(turned, format='PNG', exif=exif)
    webp = io.BytesIO()
    image.save(webp, format='WEBP', lossless=True)
    kinds = dict(grey=png(image.convert('L')), palette=png(image.quantize(32)), alpha=png(clear), turned=turned.getvalue(), webp=webp.getvalue(), one=png(Image.new('RGB', (1, 1), 'teal')))
    for name, data in kinds.items():
        open_bytes(page, data, name)
        ours = np.array(page.evaluate(SQUASHED)).reshape(size, size, 3)
        theirs = np.array(to_rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(ours - theirs).max() <= (1 if name == 'alpha' else 0), name


def test_every_variant_agrees_with_python(page):
    images, agreement, logits = pictures(), {name: [] for name in NETS}, 0.0
    models = {name: load_pretrained(v.down, v.up, v.loss) for name, v in NETS.items()}
    open_bytes(page, png(images[0]), '0.png')
    first_run(page)
    for i, image in enumerate(images):
        if i: open_bytes(page, png(image), f'{i}.png')
        for name, model in models.items():
            choose(page, 'a', name)
            wanted = np.array(model.mask(image, .5)) > 0
            ours = mask_of(page)
            assert ours.shape == wanted.shape, (i, name)
            agreement[name].append((ours == wanted).mean())
            assert agreement[name][-1] >= .995, (i, name, agreement[name][-1])
            numbers = np.array(page.evaluate("Array.from(document.querySelector('.playground').playground.state.results.a.logits)"))
            if not columns_first(image): logits = max(logits, np.abs(numbers - model.logits(image).numpy().ravel()).max())
    assert logits < 2e-3
    milliseconds = page.evaluate('''async () => { const {networks, state, manifest} = document.querySelector('.playground').playground, times = {};
        for (const name of Object.keys(manifest.models)) { const {size} = manifest.models[name], all = [];
            for (let i = 0; i < 15; i++) all.push((await networks.run(name, state.backend, new Float32Array(3 * size * size))).milliseconds);
            times[name] = all.sort((a, b) => a - b)[7]; }
        return times; }''')
    for name, values in agreement.items(): print(f'{name}: agreement {100 * min(values):.3f} % at least, {100 * np.mean(values):.4f} % on average; {milliseconds[name]:.0f} ms')
    print(f'largest difference of a logit: {logits:.1e}')


def test_the_first_view_is_light_and_a_network_comes_once(page, folder, server):
    asked = [Path(url).name for url in page.seen.requests if url.startswith(server)]
    first = sum((folder / url.removeprefix(server)).stat().st_size for url in set(page.seen.requests) if url.startswith(server))
    assert not [name for name in asked if name.endswith(('.onnx', '.wasm', '.mjs'))] and first < 600_000, (asked, first)
    manifest = json.loads((folder / 'manifest.json').read_text())
    told = page.locator('.pg-cost').inner_text()
    total = manifest['models']['mp-tr-bce']['bytes'] + sum(part['bytes'] for part in RUNTIME['wasm'])
    assert f'{total / 1e6:.1f} MB' in told
    first_run(page)
    loaded = [url for url in page.seen.requests if url.endswith(('.onnx', '.wasm', '.mjs'))]
    assert sorted(Path(url).name for url in loaded) == sorted(['mp-tr-bce.onnx'] + [part['file'] for part in RUNTIME['wasm']])
    # a second visit: the browser kept them, asks nobody, and runs at once
    page.reload()
    ready(page)
    predicted(page)
    assert [url for url in page.seen.requests if url.endswith(('.onnx', '.wasm', '.mjs'))] == loaded
    print(f'first view {first} bytes; then {total} bytes')


def test_progress_is_shown(page):
    page.evaluate('''() => { window.shares = []; const bar = document.querySelector('.playground progress');
        new MutationObserver(() => window.shares.push([bar.value, bar.parentElement.textContent, !bar.closest('[hidden]')])).observe(bar, {attributes: true}); }''')
    first_run(page)
    shares = page.evaluate('window.shares')
    values = [value for value, _, _ in shares]
    assert len(set(values)) >= 3 and values == sorted(values) and values[-1] == pytest.approx(1) and all(visible for _, _, visible in shares)
    assert any('MB' in text for _, text, _ in shares) and page.locator('.pg-loading').is_hidden()


def test_clicks_during_a_load_share_it_and_see_it(page):
    with held(page, '**/mp-tr-dice.onnx'):
        with held(page, '**/*.wasm'):
            page.get_by_role('button', name='Run the network').click()
            page.locator('.pg-loading').wait_for()
            for loss in ('dice', 'bce', 'dice'): page.locator(f'[name=pg-a-loss][value={loss}]').check()
        page.wait_for_function("document.querySelector('.playground').playground.networks.sessions.has('wasm mp-tr-bce')")
        page.evaluate("document.querySelector('.playground').playground.networks.last.then(() => null)")
        # the first click has its network; whoever waits for the other still sees how far it is
        assert page.locator('.pg-loading').is_visible() and 'MB' in page.locator('.pg-loading-text').inner_text() and .5 < page.locator('progress').evaluate('bar => bar.value') < 1
    predicted(page, 'a', 'mp-tr-dice')
    assert page.locator('.pg-loading').is_hidden()
    loaded = [Path(url).name for url in page.seen.requests if url.endswith(('.onnx', '.wasm', '.mjs'))]
    assert sorted(loaded) == sorted(['mp-tr-bce.onnx', 'mp-tr-dice.onnx'] + [part['file'] for part in RUNTIME['wasm']])


def test_a_kept_copy_that_is_damaged_is_fetched_anew_and_a_wrong_file_is_not_used(page, folder, server):
    first_run(page)
    page.evaluate('''async () => { const store = await caches.open('unet-course-playground'); for (const key of await store.keys()) if (key.url.endsWith('.onnx')) await store.put(key, new Response('damaged')); }''')
    page.reload()
    ready(page)
    predicted(page)
    other = folder / 'models/mp-ups-dice.onnx'
    whole = other.read_bytes()
    try:
        other.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        page.locator('[name=pg-a-up][value=ups]').check()
        page.locator('[name=pg-a-loss][value=dice]').check()
        page.locator('[role=alert]', has_text='is not the file this page was made with').wait_for()
    finally:
        date = other.stat().st_mtime_ns
        other.write_bytes(whole)
        os.utime(other, ns=(date, date))  # asked whether the file is newer than the damaged one, the server now says no
    page.get_by_role('button', name='Try again').click()
    predicted(page, 'a', 'mp-ups-dice')
    assert page.locator('[role=alert]').is_hidden()


def test_samples_say_how_well_the_network_did(page, folder):
    first_run(page)
    model = load_pretrained('mp', 'tr', 'bce')
    assert 'IoU' not in page.locator('[data-panel=a] figcaption').inner_text(), 'no truth is known of a photo'
    for button in page.locator('.pg-samples button').all():
        name = button.get_attribute('data-sample')
        button.click()
        page.wait_for_function('name => document.querySelector(".playground").playground.state.picture.sample?.name === name', arg=name)
        predicted(page)
        assert button.get_attribute('aria-pressed') == 'true' and page.locator('.pg-samples [aria-pressed=true]').count() == 1
        caption = page.locator('[data-panel=a] figcaption').inner_text()
        if name.startswith('pet'):
            i = int(name.removeprefix('pet'))
            truth, image = draw_pet(0, i, 384)[1] == PET, Image.open(folder / f'samples/{name}.jpg')
            mask = predict(model, image) > .5
            assert abs(float(re.search(r'IoU\s([\d.]+)', caption)[1]) - (mask & truth).sum() / (mask | truth).sum()) < .02, caption
        assert page.locator('.pg-status').inner_text().count('WebAssembly') == 1
    assert re.search(r'\d+ ms a prediction', page.locator('.pg-status').inner_text())


@pytest.mark.parametrize('late, down', [('pet3.jpg', False), ('pet3.jpg', True), ('pet3-truth.png', False)])
def test_the_last_picture_chosen_is_shown(page, server, late, down):
    if down: server.down.add(late)
    with held(page, f'**/samples/{late}'):
        with page.expect_request(f'**/samples/{late}'): page.evaluate("() => { window.late = document.querySelector('[data-sample=pet3]').onclick(); }")
        open_bytes(page, png(Image.fromarray(draw_pet(5, 2, 90)[0])), 'own.png')
    page.evaluate('window.late')
    server.down.clear()
    assert page.evaluate("document.querySelector('.playground').playground.state.picture.title") == 'own.png' and page.locator('.pg-samples [aria-pressed=true]').count() == 0
    assert page.locator('[role=alert]').is_hidden()
    while down and not page.seen.complaints: page.wait_for_event('console')  # the browser's own note
    page.seen.complaints.clear()


def test_no_mask_is_saved_before_it_is_there(page):
    first_run(page)
    with held(page, '**/mp-tr-dice.onnx'):
        page.locator('[name=pg-a-loss][value=dice]').check()
        open_bytes(page, png(Image.fromarray(draw_pet(5, 2, 90)[0])), 'own.png')
        assert page.locator('.pg-save').is_disabled()
    predicted(page, 'a', 'mp-tr-dice')
    with page.expect_download() as download: page.locator('.pg-save').click()
    assert download.value.suggested_filename == 'own-mp-tr-dice.png'


def test_a_network_left_out_is_said_until_another_is_chosen(page, folder):
    manifest = json.loads((folder / 'manifest.json').read_text())
    del manifest['models']['mp-tr-dice']
    page.route('**/manifest.json', lambda route: route.fulfill(json=manifest))
    page.reload()
    ready(page)
    page.locator('[name=pg-a-loss][value=dice]').check()
    said = page.locator('[role=alert]', has_text='built without mp-tr-dice')
    said.wait_for()
    open_bytes(page, png(Image.fromarray(draw_pet(5, 2, 90)[0])), 'own.png')
    page.locator('.pg-threshold').fill('0.4')
    said.wait_for()
    page.locator('[name=pg-a-loss][value=bce]').check()
    assert page.locator('[role=alert]').is_hidden()
    first_run(page)


def test_threshold_and_overlay(page):
    first_run(page)
    image = Image.open(ROOT / 'nbs/playground/chelsea.jpg')
    probability, before, shares = predict(load_pretrained('mp', 'tr', 'bce'), image), page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()"), []
    for threshold in (.1, .5, .9):
        page.locator('.pg-threshold').fill(str(threshold))
        assert page.locator('.pg-threshold-value').inner_text() == f'{threshold:.2f}'
        share = float(re.search(r'([\d.]+) % pet', page.locator('[data-panel=a] figcaption').inner_text())[1])
        assert share == pytest.approx(100 * (probability > threshold).mean(), abs=.3)
        shares.append(share)
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[2]
    page.get_by_role('button', name='use it').click()
    assert page.locator('.pg-threshold-value').inner_text() == page.locator('.pg-card tr', has_text='chosen on validation').locator('td').inner_text().split()[0][:4]
    page.locator('.pg-overlay').fill('0')
    assert page.locator('.pg-overlay-value').inner_text() == '0 %'
    assert page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()") != before


def test_comparison(page):
    first_run(page)
    page.locator('[data-sample=pet7]').click()
    page.wait_for_function('''() => { const p = document.querySelector('.playground').playground; return p.state.picture.sample.name === 'pet7'; }''')
    page.locator('.pg-compare').check()
    for b in ('mp-tr-dice', 'str_conv-ups-bce', 'mp-tr-bce'):
        choose(page, 'b', b)
        predicted(page, 'a')
        differ = (mask_of(page, 'a') != mask_of(page, 'b')).mean()
        assert f'{100 * differ:.1f} %' in page.locator('[data-panel=last] figcaption').inner_text() and (differ == 0) == (b == 'mp-tr-bce')
    choose(page, 'b', 'mp-tr-dice')
    assert page.locator('.pg-legend-difference').is_visible() and page.locator('[data-panel=input]').is_hidden()
    assert page.locator('.pg-card thead th').count() == 3
    # stripes as well as colours: what only A says holds white pixels, and so do the legend's swatches
    only_a = page.evaluate('''() => { const {state} = document.querySelector('.playground').playground, canvas = document.querySelector('[data-panel=last] canvas'), data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = []; state.results.a.mask.forEach((v, i) => { if (v && !state.results.b.mask[i]) found.push(data[4 * i]); }); return found; }''')
    light = np.array(only_a) > 200
    assert len(only_a) > 1000 and .2 < light.mean() < .6
    keep_screenshot(page, 'comparison')
    mask = page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()")
    page.locator('[name=pg-view][value=probability]').check()
    assert page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()") != mask and page.locator('.pg-legend-probability').is_visible()
    page.locator('.pg-compare').uncheck()
    page.wait_for_function("document.querySelector('[data-panel=b]').hidden")


def test_the_card_is_what_the_package_says(page):
    card = json.loads((ROOT / 'unet_course/weights/card.json').read_text(encoding='utf-8'))
    for name in NETS:
        for factor, level in zip(('down', 'up', 'loss'), name.split('-')): page.locator(f'[name=pg-a-{factor}][value={level}]').check()
        text, model = page.locator('.pg-card').inner_text(), load_pretrained(*name.split('-'))
        test = card[name]['test']
        for expected in (f'{count_parameters(model.model):,}', f'{count_macs(model.model, model.size) / 1e6:,.0f} M', f'{test["iou_threshold"]:.4f}', f'{test["iou"]:.4f}', f'{test["dice"]:.4f}', f'{100 * test["accuracy"]:.2f} %', 'CC BY-SA 4.0', f'{test["images"]:,} images', name):
            assert expected in text, (name, expected, text)


def test_own_picture_by_button_drop_and_paste(page):
    data = png(Image.fromarray(draw_pet(5, 2, 90)[0]))
    with page.expect_file_chooser() as chooser: page.get_by_role('button', name='Your picture').click()
    chooser.value.set_files(files=[dict(name='own.png', mimeType='image/png', buffer=data)])
    page.wait_for_function("document.querySelector('.playground').playground.state.picture.title === 'own.png'")
    first_run(page)
    for kind, name in (('drop', 'dropped.png'), ('paste', 'The pasted picture')):
        page.evaluate('''async ([kind, data]) => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), files = new DataTransfer();
            files.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}));
            const root = document.querySelector('.playground');
            if (kind === 'drop') root.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true}));
            else document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: files, bubbles: true, cancelable: true}));
        }''', [kind, base64.b64encode(data).decode()])
        page.wait_for_function("name => document.querySelector('.playground').playground.state.picture.title === name", arg=name)
        predicted(page)
        assert '90 × 90' in page.locator('.pg-status').inner_text()


def test_a_network_trained_on_a_folder_is_dropped_on_the_page(page, tmp_path):
    "From a folder of pictures and masks to its mask in the browser, which is PyTorch's."
    from unet_course.runs.own_pictures import own_runs
    from unet_course.runs.run_folder import RunFolder
    from unet_course.runs.runner import run
    from unet_course.views.export import export_onnx
    for i in range(8):
        image, trimap = draw_pet(3, i, 48)[:2]
        for place, values in (('images', image), ('masks', (trimap == PET) * np.uint8(255))):
            (tmp_path / 'cells' / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / f'cells/{place}/c{i}.png')
    configs, pets, split, _ = own_runs(tmp_path / 'cells', {}, width=4, size=32, steps=2, variants='mp-ups-bce')
    run(configs[0], pets, split, tmp_path / 'runs', log=lambda line: None)
    weights = RunFolder(tmp_path / 'runs' / configs[0].folder).weights
    data, segmenter = export_onnx(weights, tmp_path, log=lambda line: None).read_bytes(), Segmenter.load(weights)
    drop = """([name, data]) => {
        const files = new DataTransfer(), root = document.querySelector('.playground');
        files.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
        root.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, ['cells.onnx', base64.b64encode(data).decode()])
    page.wait_for_function("document.querySelector('.playground').playground.state.variants.a === 'cells (yours)'")
    first_run(page)
    found = np.float32(page.evaluate("Array.from(document.querySelector('.playground').playground.state.results.a.logits)")).reshape(32, 32)
    with torch.inference_mode(): expected = segmenter.model(segmenter.square(open_photo(ROOT / 'nbs/playground/chelsea.jpg')))[0, 0].numpy()
    assert np.abs(found - expected).max() < .05 * max(1, np.abs(expected).max())
    assert 'cells (yours)' in page.locator('[data-panel=a] figcaption').inner_text() and '32 × 32' in page.locator('.pg-card').inner_text()
    assert float(page.locator('.pg-threshold').input_value()) == segmenter.threshold and not page.locator('[name=pg-a-down]:checked').count()
    page.locator('[name=pg-a-loss][value=dice]').check(force=True)  # a toggle leaves it, from where it was
    predicted(page)
    assert page.evaluate("document.querySelector('.playground').playground.state.variants.a") == 'mp-ups-dice'
    page.evaluate(drop, ['cells.onnx', base64.b64encode(data).decode()])  # a second file of that name is a second network
    page.wait_for_function("document.querySelector('.playground').playground.state.variants.a === 'cells (yours, 2)'")
    predicted(page)
    page.evaluate(drop, ['other.onnx', base64.b64encode(b'no network').decode()])
    page.wait_for_selector('.pg-error:not([hidden])')
    assert 'other.onnx is no network that unet-course export wrote' in page.locator('.pg-error').inner_text()


def test_the_camera(page):
    first_run(page)
    page.get_by_role('button', name='Camera').click()
    page.get_by_role('button', name='Cancel').click()
    page.locator('dialog').wait_for(state='hidden')
    assert page.evaluate("document.querySelector('.playground').playground.state.picture.sample.name") == 'chelsea'
    page.get_by_role('button', name='Camera').click()
    page.get_by_role('button', name='Take the picture').click()
    page.wait_for_function("document.querySelector('.playground').playground.state.picture.title === 'The camera picture'")
    predicted(page)
    assert page.evaluate("document.querySelector('.pg-dialog video').srcObject") is None, 'the camera is off again'


def test_a_double_click_opens_one_camera_and_it_is_always_switched_off(page):
    page.evaluate('''() => { const {mediaDevices} = navigator, real = mediaDevices.getUserMedia.bind(mediaDevices), gate = new Promise(open => { window.release = open; });
        window.streams = [];
        mediaDevices.getUserMedia = async wanted => { const stream = real(wanted); window.streams.push(stream); await gate; return stream; }; }''')
    tracks = 'Promise.all(window.streams).then(all => all.flatMap(stream => stream.getTracks()).map(track => track.readyState))'
    page.get_by_role('button', name='Camera').dblclick()
    page.evaluate('window.release()')
    page.get_by_role('button', name='Cancel').click()
    page.locator('dialog').wait_for(state='hidden')
    assert page.evaluate(tracks) == ['ended'] and page.locator('.pg-camera').evaluate('button => button === document.activeElement')
    page.evaluate("() => { HTMLMediaElement.prototype.play = async () => { throw new DOMException('', 'AbortError'); }; }")
    page.get_by_role('button', name='Camera').click()
    page.locator('[role=alert]', has_text='No camera gives a picture').wait_for()
    assert page.evaluate(tracks) == ['ended', 'ended'] and page.locator('dialog').is_hidden()


def test_what_is_no_picture_is_said_plainly_and_changes_nothing(page):
    first_run(page)
    before = page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()")
    damaged = png(Image.fromarray(draw_pet(5, 2, 300)[0]))
    for name, kind, data, said in (('notes.txt', 'text/plain', b'no picture at all', 'notes.txt is no picture'), ('lies.png', 'image/png', b'\x89PNG no', 'lies.png is no picture'),
                                   ('empty.jpg', 'image/jpeg', b'', 'empty.jpg is no picture'), ('cut.png', 'image/png', damaged[:200], 'cut.png')):
        page.locator('.pg-file').set_input_files(files=[dict(name=name, mimeType=kind, buffer=data)])
        alert = page.locator('[role=alert]', has_text=said)
        alert.wait_for()
        assert page.evaluate("document.querySelector('[data-panel=a] canvas').toDataURL()") == before
    page.evaluate("document.querySelector('.playground').playground.open(new Blob([new Uint8Array(61e6)]), 'huge.jpg')")
    page.locator('[role=alert]', has_text='huge.jpg: 61 MB; at most 60 MB').wait_for()
    page.locator('[data-sample=pet3]').click()
    page.wait_for_function("document.querySelector('.playground').playground.state.picture.sample?.name === 'pet3'")
    predicted(page)
    assert page.locator('[role=alert]').is_hidden()


def test_a_large_photo(page, tmp_path):
    image = Image.fromarray(draw_pet(5, 4, 500)[0]).resize((6000, 4000), Image.Resampling.BICUBIC)
    path = tmp_path / 'photo.jpg'
    image.save(path, quality=90)
    first_run(page)
    with page.expect_file_chooser() as chooser: page.get_by_role('button', name='Your picture').click()
    chooser.value.set_files(path)
    page.wait_for_function("document.querySelector('.playground').playground.state.picture.title === 'photo.jpg'")
    predicted(page)
    assert '6000 × 4000' in page.locator('.pg-status').inner_text()
    shown = page.evaluate("(({width, height}) => [width, height])(document.querySelector('.playground').playground.state.picture.shown)")
    assert shown == [720, 480]
    model = load_pretrained('mp', 'tr', 'bce')
    size = model.size
    ours = np.array(page.evaluate(SQUASHED)).reshape(size, size, 3)
    assert np.abs(ours - np.array(Image.open(path).resize((size, size), Image.Resampling.BILINEAR)).astype(int)).max() <= 2, 'two decoders of JPEG'
    assert (mask_of(page) == (np.array(predict_mask(model, Image.open(path), .5).resize((720, 480), Image.Resampling.NEAREST)) > 0)).mean() > .99
    with page.expect_download() as download: page.get_by_role('button', name='Save the mask').click()
    saved = Image.open(download.value.path()).convert('L')
    assert saved.size == (6000, 4000) and set(np.unique(saved)) <= {0, 255} and download.value.suggested_filename == 'photo-mp-tr-bce.png'
    assert (np.array(saved) == np.array(predict_mask(model, Image.open(path), .5))).mean() > .999
    # more than that is refused before it is decoded
    Image.new('1', (9000, 8000)).save(tmp_path / 'wall.png')
    page.locator('.pg-file').set_input_files(tmp_path / 'wall.png')
    page.locator('[role=alert]', has_text='wall.png: 9000 x 8000 pixels; at most 64 million').wait_for()


def test_by_keyboard_alone(page):
    page.locator('[data-sample=pet3]').focus()
    page.keyboard.press('Enter')
    page.wait_for_function("document.querySelector('.playground').playground.state.picture.sample?.name === 'pet3'")
    page.locator('[name=pg-a-loss]').first.focus()
    page.keyboard.press('ArrowRight')
    assert page.locator('[name=pg-a-loss][value=dice]').is_checked()
    for _ in range(12):
        page.keyboard.press('Tab')
        if page.evaluate("document.activeElement.classList.contains('pg-run')"): break
    else: pytest.fail('the button that runs the network is not reached by the tab key')
    page.keyboard.press('Enter')
    predicted(page, 'a', 'mp-tr-dice')
    page.locator('.pg-threshold').focus()
    page.keyboard.press('ArrowRight')
    assert page.locator('.pg-threshold-value').inner_text() == '0.51'
    outline = page.evaluate('''() => { const input = document.querySelector('[name=pg-a-loss]:checked'); input.focus(); return getComputedStyle(input.nextElementSibling).outlineStyle; }''')
    assert outline == 'solid', 'the focus is seen'
    assert page.evaluate('''() => [...document.querySelectorAll('.pg-app button, .pg-app input, .pg-app select, .pg-app canvas')].filter(n => !n.closest('[hidden]') && !(n.getAttribute('aria-label') || n.textContent.trim() || n.labels?.length)).map(n => n.outerHTML)''') == []


def test_the_focus_stays_and_the_result_is_announced(page):
    "The button that was pressed goes away: the keyboard is left where the mask appears, and a screen reader is told what came of it."
    said = page.get_by_role('status')
    assert said.inner_text() == ''
    page.locator('.pg-run').focus()
    page.keyboard.press('Enter')
    predicted(page)
    assert page.evaluate("document.activeElement.className") == 'pg-stage'
    assert re.fullmatch(r'mp-tr-bce: [\d.]+ % pet', said.inner_text())
    page.locator('.pg-compare').check()
    predicted(page, 'b')
    assert re.fullmatch(r'A, mp-tr-bce: .* pet\. B, mp-ups-bce: .* pet\. A and B differ on [\d.]+ % of the pixels', said.inner_text())
    before = said.inner_text()
    page.locator('[data-panel=a] canvas').hover()
    assert said.inner_text() == before and 'p = ' in page.locator('.pg-status').inner_text(), 'the pointer is not read out'


def test_address_chooses_networks_and_picture(page, server):
    first_run(page)
    page.goto(server + 'index.html?a=str_conv-tr-bce&b=str_conv-tr-dice&picture=pet8')
    ready(page)
    page.get_by_role('button', name='Run the network').click()
    predicted(page, 'a', 'str_conv-tr-bce')
    predicted(page, 'b', 'str_conv-tr-dice')
    assert page.locator('[data-sample=pet8]').get_attribute('aria-pressed') == 'true' and page.locator('.pg-compare').is_checked()


@pytest.mark.parametrize('what', ['offline', 'server'])
def test_a_missing_connection_is_said_and_mended(page, server, what):
    if what == 'offline': page.context.set_offline(True)
    else: server.down.add('.onnx')
    page.get_by_role('button', name='Run the network').click()
    page.locator('[role=alert]', has_text='you are offline' if what == 'offline' else 'the server says 503').wait_for()
    if what == 'offline': page.context.set_offline(False)
    else: server.down.clear()
    page.get_by_role('button', name='Try again').click()
    predicted(page)
    assert page.locator('[role=alert]').is_hidden()
    assert len(page.seen.complaints) > 0 and all('Failed to load resource' in text for text in page.seen.complaints), 'the browser itself notes a failed request'
    page.seen.complaints.clear()


def test_an_old_browser_is_told(browser, server):
    context = browser.new_context()
    opened = context.new_page()
    opened.add_init_script('WebAssembly.validate = () => false')
    opened.goto(server + 'index.html')
    opened.locator('.pg-fallback', has_text='too old for the playground: it has no WebAssembly with SIMD').wait_for()
    assert opened.locator('.pg-app').is_hidden()
    context.close()
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(server + 'index.html')
    assert 'needs JavaScript' in opened.locator('.pg-fallback').inner_text() and opened.locator('.pg-app').is_hidden()
    context.close()


def test_webgpu_gives_the_same_mask(server, chromium):
    "On a GPU played by the processor, which is slow, so once. Such a GPU is not chosen by itself."
    flags = [flag for flag in FLAGS if flag not in ('--headless', '--disable-gpu')] + ['--headless=new', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--use-angle=swiftshader', '--ignore-gpu-blocklist']
    browser = chromium.launch(executable_path=CHROMIUM, args=flags)
    page = browser.new_page()
    page.set_default_timeout(300_000)
    seen = Seen(page)
    page.goto(server + 'index.html?a=str_conv-ups-dice&picture=pet3')
    ready(page)
    if not page.evaluate("document.querySelector('.playground').playground.webgpu"):
        browser.close()
        pytest.skip('this browser plays no GPU')
    assert page.evaluate("document.querySelector('.playground').playground.webgpu") == 'slow'
    page.get_by_role('button', name='Run the network').click()
    predicted(page)
    logits = "Array.from(document.querySelector('.playground').playground.state.results.a.logits)"
    wasm = np.array(page.evaluate(logits))
    assert 'WebAssembly' in page.locator('.pg-status').inner_text()
    page.locator('.pg-backend').select_option('webgpu')
    page.wait_for_function("document.querySelector('.playground').playground.state.backend === 'webgpu'")
    assert np.abs(np.array(page.evaluate(logits)) - wasm).max() < 1e-3 and 'WebGPU' in page.locator('.pg-status').inner_text()
    assert seen.complaints == [] and all(url.startswith((server, 'blob:')) for url in seen.requests)
    browser.close()


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (1280, 'dark'), (390, 'light'), (320, 'dark')])
def test_it_fits_and_can_be_read(browser, server, width, scheme):
    context = browser.new_context(viewport=dict(width=width, height=844), color_scheme=scheme)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.goto(server + 'index.html?a=mp-tr-bce&b=mp-tr-dice&picture=pet7')
    ready(opened)
    keep_screenshot(opened, f'first_{width}_{scheme}')
    opened.get_by_role('button', name='Run the network').click()
    predicted(opened, 'b')
    assert opened.evaluate('document.documentElement.scrollWidth <= innerWidth'), 'nothing sticks out'
    opened.evaluate('Promise.all(document.getAnimations().map(one => one.finished))')  # a colour on its way has no contrast of its own
    contrasts = opened.evaluate(r'''() => {
        const channels = text => text.match(/[\d.]+/g).map(Number), light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
        const behind = node => { for (; node; node = node.parentElement) { const c = channels(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll('.playground *')].filter(n => n.offsetParent && [...n.childNodes].some(c => c.nodeType === 3 && c.textContent.trim()) && !n.disabled && n.tagName !== 'OPTION')
            .map(n => { const a = light(channels(getComputedStyle(n).color)), b = light(behind(n)); return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), n.textContent.trim().slice(0, 30)]; }); }''')
    assert len(contrasts) > 30 and [c for c in contrasts if c[0] < 4.5] == []
    small = opened.evaluate('''() => [...document.querySelectorAll('.playground button, .playground select, .pg-pill')].filter(n => n.offsetParent).map(n => [n.getBoundingClientRect().height, n.textContent.trim().slice(0, 20)]).filter(([h]) => h < 24)''')
    assert small == [], 'large enough for a thumb'
    keep_screenshot(opened, f'{width}_{scheme}')
    context.close()


def test_the_notebook_holds_the_page(folder, browser, tmp_path):
    "The notebook's stored output, with the built folder beside it as on the site, comes alive, and follows Quarto's dark theme."
    nb = json.loads((ROOT / 'nbs/playground.ipynb').read_text(encoding='utf-8'))
    stored, = (''.join(o['data']['text/html']) for c in nb['cells'] if c['cell_type'] == 'code' for o in c['outputs'] if 'class="playground"' in ''.join(o.get('data', {}).get('text/html', '')))
    shutil.copytree(ROOT / 'nbs/playground', tmp_path / 'playground', ignore=shutil.ignore_patterns('live'))
    shutil.copytree(folder, tmp_path / 'playground/live')
    (tmp_path / 'playground.html').write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,"><body class="quarto-dark">{stored}</body></html>', encoding='utf-8')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(tmp_path))) as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        page = browser.new_page()
        page.set_default_timeout(60_000)
        seen = Seen(page)
        page.goto(f'http://127.0.0.1:{opened.server_port}/playground.html')
        ready(page)
        first_run(page)
        assert page.evaluate("getComputedStyle(document.querySelector('.playground')).backgroundColor") == 'rgb(28, 36, 45)'
        assert seen.complaints == []
        page.close()
        opened.shutdown()
        thread.join()
