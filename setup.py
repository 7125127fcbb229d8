"""Packaging: every fact comes from settings.ini; the wheel also carries the notebooks, the small results and the weights."""
import json
import shutil
from configparser import ConfigParser
from itertools import product
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(HERE / 'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
FACTORIAL = ['-'.join(levels) for levels in product(('mp', 'str_conv'), ('tr', 'ups'), ('bce', 'dice'))]
STATUS = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']


def analysed(results):
    """Return the runs whose arrays the wheel carries: the first seed of the setting that chapter 06 analyses.

    That is the one with the largest pictures, then the narrowest networks, then the most seeds, of those with all eight variants under several seeds, the border
    as background, and a test split (`find_factorials` has the same order; a test holds the two together).
    """
    settings = {}
    for path in results.rglob('config.json'):
        config, metrics = (json.loads((path.parent / name).read_text(encoding='utf-8')) for name in ('config.json', 'metrics.json'))
        config = config['config']
        shared = {key: value for key, value in config.items() if key not in ('variant', 'seed', 'model', 'loss', 'pos_weight', 'pictures')}
        setting = json.dumps([shared, metrics['train_images'], metrics['amp']], sort_keys=True)  # what Setting compares
        size = config['size'], -config['width'], config['recipe']['epochs']
        if config['border'] == 'background' and config['protocol'] != 'published' and not config.get('init'):
            settings.setdefault((*size, setting), {})[config['variant'], config['seed']] = path.parent
    repeated = []
    for key, runs in settings.items():
        seeds = [seed for seed in sorted({seed for _, seed in runs}) if all((variant, seed) in runs for variant in FACTORIAL)]
        size, width, *rest = key
        if len(seeds) > 1: repeated.append((size, width, len(seeds), *rest, [runs[variant, seeds[0]] for variant in FACTORIAL]))
    return max(repeated, key=lambda found: found[:5])[5] if repeated else []


class BuildWithCourse(build_py):
    """build_py that also copies nbs/, the small results and the weights into the package, for those who only ran pip.

    Of the per-image measurements it carries those of one seed: all of them would outgrow the wheel.
    """

    def run(self):
        super().run()
        results = HERE / 'results'
        arrays = [f'{run.relative_to(results).as_posix()}/evaluation.npz' for run in analysed(results)]
        course = {'nbs': (HERE / 'nbs', ['*.ipynb', 'workshop/**/*.ipynb', 'images/*', 'playground/*.*']),
                  'results': (results, ['**/*.json', '**/*.csv', '**/*.md', *arrays]),
                  'weights': (HERE / cfg['lib_name'] / 'weights', ['*'])}
        for name, (folder, patterns) in course.items():
            target = Path(self.build_lib) / cfg['lib_name'] / name
            shutil.rmtree(target, ignore_errors=True)
            for source in sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()}):
                destination = target / source.relative_to(folder)
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, destination)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license_expression='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    keywords=cfg['keywords'].split(),
    url=cfg['git_url'],
    project_urls={'Course': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url'], 'Issues': cfg['git_url'] + '/issues'},
    classifiers=[
        'Development Status :: ' + STATUS[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'],
        'Natural Language :: ' + cfg['language'],
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (11, 12, 13)),
        'Framework :: Jupyter',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name'] + '.*']),
    package_data={cfg['lib_name']: ['py.typed']},
    include_package_data=False,
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={name: cfg[name + '_requirements'].split() for name in ('notebooks', 'export', 'bench', 'dev')},
    # nbdev: where names in backticks and the links to the source on the site lead
    entry_points={'console_scripts': ['unet-course = unet_course.cli:main'], 'nbdev': [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"]},
    cmdclass={'build_py': BuildWithCourse},
    options={'build': {'build_base': '_build'}},  # nbdev would take the notebooks in build/ for ours; it leaves folders with an underscore alone
    zip_safe=False,
)
