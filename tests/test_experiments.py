"""Chapter 05: variants, settings, configs."""
import json
import os
from dataclasses import replace

import nbformat
import pytest

from conftest import ROOT
from unet_course.experiments import EXPERIMENTS, FACTORIAL, PROTOCOLS, Setting, Variant, make_configs, parse_variants
from unet_course.support.files import CourseError
from unet_course.training import Recipe


def test_the_four_and_the_eight():
    assert [v.id for v in EXPERIMENTS.values()] == ['mp-tr-bce', 'mp-tr-dice', 'str_conv-tr-bce', 'str_conv-ups-dice']
    assert len({v.id for v in FACTORIAL}) == 8 and set(EXPERIMENTS.values()) < set(FACTORIAL)
    assert parse_variants('factorial') == FACTORIAL and parse_variants('experiments') == list(EXPERIMENTS.values())
    assert parse_variants('exp1, mp-tr-bce,exp4') == [EXPERIMENTS['exp1'], EXPERIMENTS['exp4']]


@pytest.mark.parametrize('text', ['', ',', 'exp5', 'mp-tr', 'mp-tr-bce-x', 'tr-mp-bce', 'mp-tr-focal', 'EXP1'])
def test_wrong_variants(text):
    with pytest.raises(CourseError, match='exp1'): parse_variants(text)


def test_presets():
    variants = parse_variants('exp1')
    assert [(c.setting.width, c.setting.size, c.setting.recipe.epochs) for preset, device in (('auto', 'cpu'), ('auto', 'cuda'), ('full', 'cpu')) for c in make_configs(variants, preset=preset, device=device)] == [(16, 64, 6), (64, 128, 15), (64, 128, 15)]
    config = make_configs(variants, preset='full', epochs=2, width=8, batch_size=4, protocol='published', border='pet')[0]
    assert config.setting.folder == 'pets-published-w8-128px-2ep-border_pet' and config.setting.recipe.epochs == 2 and config.setting.recipe.batch_size == 4
    assert str(config.folder).replace(os.sep, '/') == 'pets-published-w8-128px-2ep-border_pet/mp-tr-bce/seed0'
    json.dumps(config.to_dict())


@pytest.mark.parametrize('wrong', [dict(preset='huge'), dict(protocol='mine'), dict(border='purple'), dict(size=8), dict(width=0), dict(seeds=[-1]), dict(data='cars'), dict(epochs=0), dict(batch_size=0)])
def test_wrong_configs(wrong):
    with pytest.raises(CourseError, match=list(wrong)[0].rstrip('s')): make_configs(parse_variants('exp1'), **wrong)


def test_published_is_the_original():
    recipe = PROTOCOLS['published']
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.schedule, recipe.max_grad_norm, recipe.augmented, recipe.select) == ('adam', 1e-3, 32, 15, 'none', None, False, 'loss')


def test_no_dash_in_the_name_of_a_mode():
    with pytest.raises(CourseError, match='blur-pool.*no dash'): Variant('blur-pool', 'tr', 'dice')


def test_the_old_name_of_the_unweighted_loss_is_still_read():
    assert parse_variants('mp-tr-bce1') == parse_variants('mp-tr-bce_unweighted') and parse_variants('mp-tr-bce1')[0].id == 'mp-tr-bce_unweighted'


@pytest.mark.parametrize('variant, loss', [('mp-tr-bce', dict(pos_weight=3.0)), ('mp-tr-bce_unweighted', dict(pos_weight=1.0)), ('mp-tr-dice', dict(smooth=1.0, per_image=False))])
def test_a_config_holds_the_arguments_of_its_own_loss(variant, loss):
    config, = make_configs(parse_variants(variant))
    stored = config.to_dict()
    assert stored['loss'] == loss and 'pos_weight' not in stored
    assert replace(config, pos_weight=5.0).to_dict()['loss'] == (dict(pos_weight=5.0) if variant == 'mp-tr-bce' else loss)


def test_the_folder_names_epochs_border_and_start():
    make = lambda **changes: make_configs(parse_variants('exp1'), preset='laptop', **changes)[0].setting.folder
    assert make() == 'pets-course-w16-64px-6ep' and make(epochs=15) == 'pets-course-w16-64px-15ep'
    assert make(border='ignore', init='mp-tr-dice', data='folder_cells') == 'folder_cells-course-w16-64px-6ep-border_ignore-init_mp-tr-dice'


SETTING = Setting(amp='off', pictures='10 with names 0123', train_images=7, test_images=2)
CHANGES = [dict(data='synthetic'), dict(protocol='published'), dict(width=8), dict(size=96), dict(border='pet'), dict(init='mp-tr-dice'), dict(amp='bfloat16'),
           dict(recipe=replace(SETTING.recipe, epochs=7)), dict(recipe=replace(SETTING.recipe, lr=1e-4)), dict(loss='pos_weight 1.0'), dict(pictures='10 with names 4567'),
           dict(train_images=8), dict(test_images=None)]


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: '-'.join(change))
def test_a_setting_tells_apart_what_cannot_be_compared(change):
    other = replace(SETTING, **change)
    name, = SETTING.differences(other)
    assert other != SETTING and name == (next(iter(change)) if 'recipe' not in change else 'epochs' if other.recipe.epochs == 7 else 'lr')
    assert SETTING.differences(SETTING) == {}


def test_a_stored_run_gives_its_setting_back():
    config = replace(make_configs(parse_variants('exp2'), data='synthetic', epochs=3)[0], setting=replace(SETTING, data='synthetic', recipe=replace(SETTING.recipe, epochs=3)))
    stored = json.loads(json.dumps(config.to_dict()))
    assert Setting.of(stored, None) == config.setting
    assert Setting.of(stored, dict(amp='bfloat16', train_images=7, test=dict(images=2))) == replace(config.setting, amp='bfloat16')


def test_a_run_of_before_the_names_changed_is_read():
    recipe = dict(epochs=5, batch_size=32, optimizer='adamw', lr=.003, weight_decay=.01, schedule='one_cycle', clip=1.0, augmented=True, average=0.0, select='iou')
    old = dict(variant='mp-tr-bce1', seed=0, data='pets', protocol='course', width=16, size=64, border='background', recipe=recipe, amp='auto', pos_weight=1.0)
    setting = Setting.of(old, dict(amp='bfloat16', train_images=3312, test=dict(images=3669)))
    assert setting.recipe == Recipe(epochs=5, select='iou') and setting.loss == '' and setting.amp == 'bfloat16'
    assert Setting.of(old | dict(variant='mp-tr-dice', pos_weight=3.0), None).loss == '' != Setting.of(old | dict(variant='mp-tr-bce'), None).loss


def test_a_setting_in_words_names_every_change_of_the_recipe():
    assert str(Setting()) == 'Oxford-IIIT Pet, course protocol, width 16, 64x64 pixels, 6 epochs, border as background'
    changed = str(Setting(data='synthetic', recipe=replace(PROTOCOLS['course'], lr=.5, batch_size=8), init='mp-tr-dice', border='ignore', loss='pos_weight 1.0'))
    assert changed == 'synthetic pets, course protocol, width 16, 64x64 pixels, 6 epochs, batch size 8, lr 0.5, pos_weight 1.0, border ignored, starting from mp-tr-dice'


def test_shell_scripts_begin_with_whole_lines():
    for path in sorted((ROOT / 'nbs').glob('*.ipynb')):
        for cell in nbformat.read(path, as_version=4).cells: assert '\n!/bin' not in '\n' + cell.source, path.name
    text = '\n'.join(cell.source for cell in nbformat.read(ROOT / 'nbs/many_machines.ipynb', as_version=4).cells)
    assert '```bash\n#!/bin/bash\n' in text

