"""A plugin (`-p one_selector`) that runs the tests on the best selector only.

What a test does on the poll(2) selector it does in `make test` as well: that selector has nothing of the platform's in
it.  So a test that has a selector as its parameter is left out for the others, and nothing else is.
"""

from metalio._sys import selector_names

OTHERS = selector_names()[1:]


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if is_of_another(item)]
    if left_out:
        items[:] = [item for item in items if not is_of_another(item)]
        config.hook.pytest_deselected(items=left_out)


def is_of_another(item):
    # Some parameters are objects that refuse to be compared.
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = {value for value in parameters if type(value) is str}
    return any(name in named or item.parent.name == f"TestOn{name.capitalize()}" for name in OTHERS)
