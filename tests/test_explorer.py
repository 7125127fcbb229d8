"""The explorer without a browser: its panel, its pictures, its widget and the views of the inside."""
import base64
import datetime
import io
import re
import threading
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from unet_course.data import PET
from unet_course.datasets.oxford_pets import find_pets
from unet_course.datasets.synthetic import draw_pet
from unet_course.experiments import FACTORIAL
from unet_course.factory import UNet, create_model
from unet_course.prediction import Segmenter, load_pretrained, predict
from unet_course.views import explorer, inside
from unet_course.views.explorer import (
    Picture, all_view, explore, explorer_panel, explorer_pictures, known_networks, ladder_view, mask_caption, median_picture, place_in_test, small_picture, uploaded_picture)
from unet_course.views.inside import Gained, known_inside, ladder_sentence, stages
from unet_course.views.panels import mask_iou

SIZE = 32


@pytest.fixture(scope='module')
def segmenters():
    "One small untrained network a variant."
    def network(i, v): return create_model(dict(base_width=2, depth=2, downsample_mode=v.down, upsample_mode=v.up), seed=i).eval()
    found = {}
    for i, v in enumerate(FACTORIAL):
        plain = Segmenter(network(i, v), SIZE)
        found[v.id] = Segmenter(plain.model, SIZE, float(np.median(plain.probability(draw_pet(1, 0, 64)[0]))))  # so that half a picture is pet
    return found


class Reader(HTMLParser):
    "Refuses HTML whose tags do not match; keeps the start tags."
    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('img', 'input'): self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag


def pixels(uri): return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(',')[2]))))


@pytest.fixture(scope='module')
def drawn():
    image, trimap, _ = draw_pet(1, 0, 64)
    return Picture(image, trimap == PET, 'a pet')


def test_the_panel_shows_what_the_masks_are(drawn):
    half = np.zeros((64, 64))
    half[:, :16] = .7
    text = explorer_panel(drawn, {'mp-tr-bce': drawn.truth * .9, 'str_conv-ups-dice': half})
    images = [a for tag, a in Reader(text).tags if tag == 'img']
    assert [a['data-shows'] for tag, a in Reader(text).tags if tag == 'figure'] == ['picture', 'mp-tr-bce', 'str_conv-ups-dice', 'difference']
    assert 'IoU 1.000' in images[1]['alt'] and '25.0% pet' in images[2]['alt'] and all(a['alt'] for a in images)
    assert f'{(drawn.truth != (half > 0)).mean():.1%} of the pixels' in images[3]['alt']
    assert all(pixels(a['src']).shape == (192, 192, 3) for a in images)
    assert '0.0% pet' in explorer_panel(drawn, {'mp-tr-bce': half}, dict([('mp-tr-bce', .8)]))
    one = explorer_panel(drawn, {'mp-tr-bce': half})
    assert 'difference' not in one and one != explorer_panel(drawn, {'mp-tr-bce': half}, strength=.1)
    assert 'no truth' in explorer_panel(Picture(drawn.image, None, 'mine'), {'mp-tr-bce': half})


def test_small_pictures_keep_their_shape(drawn):
    picture = small_picture(Image.new('RGB', (600, 300)), np.ones((300, 600), bool), 'wide')
    assert picture.image.shape == (128, 256, 3) and picture.truth.shape == (128, 256) and picture.truth.all()
    assert small_picture(Image.fromarray(drawn.image), None, '').image.shape == (64, 64, 3)


def test_sources_without_photos(tmp_path):
    sources = explorer_pictures(tmp_path, n=3)
    assert 'Test photos' not in sources and list(sources['Synthetic pets']) == ['pet 0', 'pet 1', 'pet 2']
    picture = sources['Synthetic pets']['pet 2']()
    assert np.array_equal(picture.truth, draw_pet(1, 2, 128)[1] == PET)
    assert sources['Cat']['Chelsea']().truth is None and not any(load().test for load in sources['Synthetic pets'].values())


def test_photos_come_from_the_test_split(pets_root):
    photos = explorer_pictures(pets_root, n=4)['Test photos']
    picture = next(iter(photos.values()))()
    assert len(photos) == 4 and picture.truth.shape == picture.image.shape[:2] and max(picture.truth.shape) <= 256 and 'Parkhi' in picture.title and picture.test


def test_uploads():
    buffer = io.BytesIO()
    Image.new('RGB', (40, 20), 'red').save(buffer, format='PNG')
    assert uploaded_picture('red.png', buffer.getvalue()).image.shape == (20, 40, 3)
    with pytest.raises(ValueError, match=r'^notes.txt: not a picture$'): uploaded_picture('notes.txt', b'text')


@pytest.mark.parametrize('size', sorted({load_pretrained('mp', 'tr', 'bce').size, 128}))
def test_the_explorer_answers_within_its_time(size):
    "Less than 300 ms after the first click, and a switched skip connection at most 2.2 times the plain pass: processor time of one thread, which other work does not lengthen."
    models, picture = {name: load_pretrained(*name.split('-')) for name in ('mp-tr-bce', 'str_conv-ups-dice')}, explorer_pictures(n=1)['Synthetic pets']['pet 0']()
    gained = {name: Segmenter(Gained(one.model, (1, 0, 1, 1)), one.size) for name, one in models.items()}
    def seconds(action):
        times = []
        for _ in range(9):
            start = time.process_time()
            action()
            times.append(time.process_time() - start)
        return np.median(times[1:])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain, panel, switch = (seconds(action) for action in (
            lambda: [one.model(one.square(picture.image)) for one in models.values()],
            lambda: explorer_panel(picture, {name: predict(model, picture.image, size) for name, model in models.items()}),
            lambda: [predict(one, picture.image) for one in gained.values()]))
    finally: torch.set_num_threads(threads)
    print(f'{size} px: panel {1000 * panel:.0f} ms, plain pass {1000 * plain:.0f} ms, from switch to mask {switch / plain:.2f} times that')
    assert panel < .3 and switch < 2.2 * plain


def descendants(widget):
    yield widget
    for child in getattr(widget, 'children', ()): yield from descendants(child)


@pytest.fixture
def widget(segmenters, drawn):
    other = Picture(drawn.image[::-1].copy(), drawn.truth[::-1].copy(), 'upside down')
    box = explore(segmenters, {'One': {'a': lambda: drawn, 'b': lambda: other}, 'Two': {'c': lambda: other}})
    named = [w for w in descendants(box) if getattr(w, 'description', '')]
    controls = {w.description: w for w in reversed(named)}
    controls['Picture'].value = 'a'
    return controls, named, box


def test_two_changes_at_once_are_drawn_one_after_the_other(widget, segmenters, drawn, monkeypatch):
    "A kernel may answer two controls in two threads; what stays is what both of them say."
    _, named, box = widget
    running, begun = [], threading.Event()
    def slow(model, image):
        running.append(+1)
        begun.set()
        assert sum(running) == 1
        time.sleep(.1)
        running.append(-1)
        return predict(model, image)
    monkeypatch.setattr(explorer, 'predict', slow)
    first = threading.Thread(target=setattr, args=([w for w in named if w.description == 'Up'][0], 'value', 'ups'))
    first.start()
    assert begun.wait(10)
    [w for w in named if w.description == 'Loss'][0].value = 'dice'
    first.join(10)
    assert box.children[1].value == expected(segmenters, drawn, 'mp-ups-dice', 'mp-ups-bce') and sum(running) == 0


def expected(segmenters, picture, *names, strength=.6, **cuts):
    thresholds = {n: cuts.get(n.replace('-', '_'), segmenters[n].threshold) for n in names}
    return explorer_panel(picture, {n: predict(segmenters[n], picture.image) for n in names}, thresholds, strength)


def test_the_explorer_shows_the_segmenters_that_are_chosen(widget, segmenters, drawn):
    controls, named, box = widget
    panel, second = box.children[1], {w.description: w for w in named if w.description in ('Up', 'Threshold')}  # the later ones
    assert panel.value == expected(segmenters, drawn, 'mp-tr-bce', 'mp-ups-bce'), 'two networks that differ in the up mode alone'
    titles = [box.children[0].children[k].children[0] for k in (0, 1)]
    assert [title.value for title in titles] == ['<b>First network: mp-tr-bce</b>', '<b>Second network: mp-ups-bce</b>']
    controls['Down'].value = 'str_conv'
    assert panel.value == expected(segmenters, drawn, 'str_conv-tr-bce', 'mp-ups-bce') and 'data-state="first-down-str_conv first-up-tr first-loss-bce second-down-mp second-up-ups second-loss-bce"' in panel.value and titles[0].value == '<b>First network: str_conv-tr-bce</b>'
    controls['Up'].value, controls['Loss'].value = 'ups', 'dice'
    assert panel.value == expected(segmenters, drawn, 'str_conv-ups-dice', 'mp-ups-bce')
    second['Up'].value = 'tr'
    assert panel.value == expected(segmenters, drawn, 'str_conv-ups-dice', 'mp-tr-bce')
    controls['Threshold'].value, controls['Overlay'].value = .4, .2
    assert panel.value == expected(segmenters, drawn, 'str_conv-ups-dice', 'mp-tr-bce', str_conv_ups_dice=.4, strength=.2)
    second['Threshold'].value = .45
    assert panel.value == expected(segmenters, drawn, 'str_conv-ups-dice', 'mp-tr-bce', str_conv_ups_dice=.4, mp_tr_bce=.45, strength=.2)


def test_each_network_has_its_own_threshold_and_keeps_what_the_reader_set(widget, segmenters):
    controls, named, box = widget
    first, second = (w for w in named if w.description == 'Threshold')
    assert (first.value, second.value) == (segmenters['mp-tr-bce'].threshold, segmenters['mp-ups-bce'].threshold) and first.value != second.value
    assert f'own {first.value:.2f}' in ''.join(w.value for w in descendants(box) if type(w).__name__ == 'HTML')
    first.value = .33
    controls['Picture'].value = 'b'
    assert first.value == .33
    controls['Down'].value = 'str_conv'
    assert first.value == segmenters['str_conv-tr-bce'].threshold


def test_the_first_picture_is_the_one_of_median_disagreement(segmenters):
    pictures = {f'pet {i}': lambda i=i: Picture(draw_pet(1, i, 64)[0], draw_pet(1, i, 64)[1] == PET, f'pet {i}') for i in range(5)}
    pair = [segmenters['mp-tr-bce'], segmenters['mp-ups-bce']]
    shares = {name: np.mean((predict(pair[0], load().image) > pair[0].threshold) != (predict(pair[1], load().image) > pair[1].threshold)) for name, load in pictures.items()}
    name = median_picture(pair, pictures)
    assert shares[name] == np.median(list(shares.values())) and len(set(shares.values())) > 1
    box = explore(segmenters, {'Pets': pictures})
    assert next(w for w in descendants(box) if getattr(w, 'description', '') == 'Picture').value == name


def test_a_test_photo_stands_beside_all_the_others(drawn):
    known = {'mp-tr-bce': dict(percentiles=[.1, .2, .5, .8, 1.0], test=dict(iou_threshold=.7))}
    photo = Picture(drawn.image, drawn.truth, 'a photo', True)
    text = explorer_panel(photo, {'mp-tr-bce': drawn.truth * .9}, known=known)
    assert 'test split: mean 0.700; better than 100 % of the test photos' in text
    assert 'better than 25 %' in place_in_test(.2, known['mp-tr-bce']) and 'better than 0 %' in place_in_test(0., known['mp-tr-bce'])
    assert 'test split' not in explorer_panel(drawn, {'mp-tr-bce': drawn.truth * .9}, known=known)


def test_what_is_kept_of_the_shipped_networks_is_whole():
    shipped = {v.id: load_pretrained(v.down, v.up, v.loss) for v in FACTORIAL}
    known = known_networks(shipped)
    assert sorted(known) == sorted(shipped), 'inside.json is of other weights: python tools/readouts.py'
    for row in known.values(): assert len(row['percentiles']) == 21 and row['percentiles'] == sorted(row['percentiles']) and row['test']['images'] == 3669


def test_what_is_kept_of_other_weights_is_not_shown(segmenters):
    assert known_networks(segmenters) == {}
    other = load_pretrained('mp', 'tr', 'bce')
    with torch.no_grad(): other.model.head.bias += 1
    assert list(known_networks({'mp-tr-bce': other, 'mp-ups-bce': load_pretrained('mp', 'ups', 'bce')})) == ['mp-ups-bce']


def test_all_networks_on_one_picture(widget, segmenters, drawn, passes):
    _, _, box = widget
    opened, (said, view, _, _, shown) = box.children[2].children[0], box.children[2].children[1].children
    opened.value, view.value = True, 'All networks'
    scores = {name: mask_iou(predict(one, drawn.image) > one.threshold, drawn.truth) for name, one in segmenters.items()}
    images = [a['alt'] for tag, a in Reader(shown.value).tags if tag == 'img']
    assert len(images) == 8 and all(text.startswith(f'{name}: IoU {score:.3f}') for text, (name, score) in zip(images, scores.items()))
    assert f'the IoU on this picture goes from {min(scores.values()):.2f} to {max(scores.values()):.2f}.' in said.value, 'and no test split, which these networks have not seen'
    passes.clear()
    view.value = 'Loupe'
    assert passes == [], 'the pass of before is kept'
    known = {name: dict(test=dict(iou_threshold=.1 * i)) for i, name in enumerate(segmenters)}
    assert all_view(segmenters, drawn, known)[1].endswith('over the whole test split the mean IoU goes from 0.00 to 0.70.')
    assert 'of this picture pet' in all_view(segmenters, Picture(drawn.image, None, 'mine'), {})[1]


def test_the_ladder_is_a_small_table_and_a_sentence(drawn):
    networks = {name: load_pretrained(*name.split('-')) for name in ('mp-tr-bce', 'mp-ups-bce')}
    known = known_networks(networks)
    for deepest, key in ((True, 'ladder'), (False, 'ladder_finest_first')):
        shown, said = ladder_view(networks, drawn.image, known, deepest)
        tags, cells = [tag for tag, _ in Reader(shown).tags], re.findall(r'<t[hd][^>]*>([^<]*)<', shown)
        assert tags.count('tr') == 6 and tags.count('img') == 10 and cells[:5] == ['skips on', 'mp-tr-bce: IoU', 'mp-tr-bce: boundary IoU', 'mp-ups-bce: IoU', 'mp-ups-bce: boundary IoU']
        for k, (ours, theirs) in enumerate(zip(known['mp-tr-bce'][key], known['mp-ups-bce'][key]), 1):
            assert cells[5 * k:5 * k + 5] == [ours['skips'], *(f'{rung[score]:.2f}' for rung in (ours, theirs) for score in ('iou', 'boundary'))]
        assert said == ladder_sentence(known, known_inside()['checked']) and 'Skip 4 is the deepest' in shown
    assert 'no table of these networks' in ladder_view(networks, drawn.image, {})[1]


def test_the_explorer_changes_pictures_and_takes_uploads(widget):
    controls, _, box = widget
    panel = box.children[1]
    controls['Picture'].value = 'b'
    assert 'upside down' in panel.value
    controls['Source'].value = 'My own'
    assert 'choose a picture' in panel.value and controls['Picture'].layout.display == 'none' and controls['Choose a picture'].layout.display == ''
    buffer = io.BytesIO()
    Image.new('RGB', (40, 20), 'red').save(buffer, format='PNG')
    upload = lambda name, content: [dict(name=name, type='', size=len(content), content=memoryview(content), last_modified=datetime.datetime(2026, 1, 1))]
    controls['Choose a picture'].value = upload('red.png', buffer.getvalue())
    assert 'your picture' in panel.value and 'mp-ups-bce' in panel.value
    controls['Choose a picture'].value = upload('<b>.txt', b'text')
    assert 'role="alert"' in panel.value and '&lt;b&gt;.txt: not a picture' in panel.value
    controls['Source'].value = 'Two'
    assert 'upside down' in panel.value and controls['Picture'].value == 'c'


@pytest.fixture
def passes(monkeypatch):
    "Counts the forward passes of every network."
    seen, forward = [], UNet.forward
    monkeypatch.setattr(UNet, 'forward', lambda self, images: (seen.append('plain'), forward(self, images))[1])
    for module in (explorer, inside):
        monkeypatch.setattr(module, 'stages', lambda *args: (seen.append('stages'), stages(*args))[1])
    return seen


def test_the_explorer_predicts_once_for_every_change(segmenters, drawn, passes):
    box = explore(segmenters, {'One': {'a': lambda: drawn, 'b': lambda: drawn}, 'Two': {'c': lambda: drawn}})
    controls = {w.description: w for w in reversed([*descendants(box)]) if getattr(w, 'description', '')}
    other = 'b' if controls['Picture'].value == 'a' else 'a'
    for change, count in ((lambda: setattr(controls['Source'], 'value', 'Two'), 2), (lambda: setattr(controls['Source'], 'value', 'One'), 2), (lambda: setattr(controls['Picture'], 'value', other), 2), (lambda: setattr(controls['Threshold'], 'value', .3), 0)):
        passes.clear()
        change()
        assert len(passes) in (count, 2 * (controls['Picture'].value != other)), passes


def test_the_inside_computes_nothing_while_it_is_closed_and_little_when_open(widget, segmenters, drawn, passes):
    controls, _, box = widget
    opened, body = box.children[2].children
    said, view, places, switches, shown = body.children
    pointer = next(w for w in descendants(box.children[0]) if getattr(w, 'description', '') == 'Look inside')
    controls['Loss'].value = 'dice'
    controls['Loss'].value = 'bce'
    assert 'stages' not in passes and shown.value == '' and body.layout.display == 'none'
    passes.clear()
    pointer.click()  # beside the toggles: the way to the panel
    assert opened.value and body.layout.display == ''
    assert passes == ['stages', 'stages'] and 'In short' in said.value and Reader(shown.value).tags and 'of the whole picture' not in said.value and 'for the whole picture' in said.value
    assert 'no grid' in shown.value and '24 × 24' in shown.value
    images = [a for tag, a in Reader(shown.value).tags if tag == 'img']
    assert len(images) == 10 and pixels(images[1]['src']).shape == (24, 24)
    passes.clear()
    controls['Down'] = [w for w in places.children if w.description == 'Down'][0]
    controls['Down'].value = 0
    assert passes == [] and Reader(shown.value).tags[1][1] is not None, 'the loupe moves over what is there'
    untrained = places.children[-1]
    untrained.value = True
    assert len(passes) == 2 and 'untrained mp-tr-bce has' in said.value and 'untrained mp-ups-bce has' in said.value
    controls['Down'].value = 3
    assert len(passes) == 2, 'nor is a network made anew'
    view.value = 'Grey square'
    assert 'grey square' in shown.value and 'change of the probability' in shown.value
    view.value = 'Skips'
    assert 'Skip 2 is the deepest' in shown.value and 'Switch a skip' in said.value
    before, panel = box.children[1].value, box.children[1]
    switches.children[0].value = False
    assert panel.value != before
    assert explorer_panel(drawn, {n: predict(Segmenter(Gained(segmenters[n].model, (1, 0)), SIZE), drawn.image) for n in ('mp-tr-bce', 'mp-ups-bce')}, {n: segmenters[n].threshold for n in ('mp-tr-bce', 'mp-ups-bce')}) == panel.value
    rebuild, rebuild_up, all_on = switches.children[-3:]
    for button, second in ((rebuild, '2'), (rebuild_up, '1')):
        button.click()
        assert [a['alt'].removeprefix('skip connections: ') for tag, a in Reader(shown.value).tags if tag == 'img'] == 2 * ['none', second, 'all']
    assert [button.description for button in (rebuild, rebuild_up)] == ['Rebuild 2 to 1', 'Rebuild 1 to 2']
    all_on.click()
    assert panel.value == before and all(box.value for box in switches.children[:-3])
    switches.children[0].value = False
    opened.value = False
    assert panel.value == before, 'closed, the masks are those of the whole network'
    opened.value = True
    controls['Source'].value = 'My own'  # nothing is uploaded, and a connection is off: the panel still obeys
    view.value = 'Loupe'
    assert switches.layout.display == 'none' and places.layout.display == ''
    opened.value = False
    assert body.layout.display == 'none'


def test_the_explorer_says_what_is_not_there(segmenters, drawn):
    def broken(): raise FileNotFoundError('the <photo> is gone')
    two = {name: segmenters[name] for name in ('mp-tr-bce', 'mp-ups-bce')}
    box = explore(two, {'None': {}, 'One': {'a': lambda: drawn, 'b': broken}})
    controls, panel = {w.description: w for w in reversed([*descendants(box)]) if getattr(w, 'description', '')}, box.children[1]
    assert 'role="alert"' in panel.value and 'None: no pictures' in panel.value
    controls['Source'].value = 'One'
    good = panel.value
    assert 'mp-tr-bce' in good and 'role="alert"' not in good
    controls['Down'].value = 'str_conv'
    assert 'no network of str_conv-tr-bce' in panel.value
    controls['Threshold'].value = .4
    assert 'no network of str_conv-tr-bce' in panel.value  # and not the old masks
    controls['Threshold'].value, controls['Down'].value = segmenters['mp-tr-bce'].threshold, 'mp'
    assert panel.value == good
    controls['Picture'].value = 'b'
    assert 'the &lt;photo&gt; is gone' in panel.value
    assert 'no network of' in explore({'mp-ups-bce': segmenters['mp-ups-bce']}, {'One': {'a': lambda: drawn}}).children[1].value


def test_titles_are_text(drawn, segmenters):
    odd = Picture(drawn.image, drawn.truth, 'KIDS" on <b>LOOKS, STORED away')
    panel = explorer_panel(odd, {'mp-tr-bce': drawn.truth.astype(np.float32)})
    assert '<b>' not in panel and 'KIDS&quot; on &lt;b&gt;LOOKS' in panel


def test_a_dataset_without_test_photos_offers_none(tmp_path):
    for folder in ('images', 'annotations/trimaps'): (tmp_path / folder).mkdir(parents=True)
    for i in range(3):
        image, trimap, _ = draw_pet(0, i, 32)
        Image.fromarray(image).save(tmp_path / f'images/Pug_{i}.jpg')
        Image.fromarray(trimap).save(tmp_path / f'annotations/trimaps/Pug_{i}.png')
    (tmp_path / 'annotations/trainval.txt').write_text(''.join(f'Pug_{i} 1 2 1\n' for i in range(3)))
    (tmp_path / 'annotations/test.txt').write_text('')
    assert find_pets(tmp_path) == tmp_path and 'Test photos' not in explorer_pictures(tmp_path)


def test_captions_are_the_figures_of_the_masks():
    mask, truth = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    mask[:5], truth[4:6] = True, True
    assert mask_caption(mask, truth) == 'IoU 0.167; 50.0% pet, 40.0% too much, 10.0% missed'
    assert mask_caption(mask, None) == '50.0% pet; no truth to compare with'
    assert mask_caption(mask & False, truth & False).startswith('IoU 1.000')
