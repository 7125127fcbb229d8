"""Build a U-Net from scratch, train its variants, and test the claims about them."""
__version__ = "0.1.0"

_HOMES = dict(UNet='factory', predict='prediction', load_pretrained='prediction', explore='views.explorer')


def __getattr__(name):
    "Import what is named only when somebody asks for it: importing the package alone stays light."
    if name not in _HOMES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__():
    "Return what can be imported from here."
    return sorted([*globals(), *_HOMES])
