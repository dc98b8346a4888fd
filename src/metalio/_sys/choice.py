"""What a variable of the environment chooses among things that have names."""

import os


def chosen(variable, names):
    """The name that a variable of the environment has for its value; the first one if it is not set, or empty."""
    name = os.environ.get(variable)
    if not name:
        return names[0]
    if name not in names:
        raise ValueError(f"{variable} is {name!r}: there is {', '.join(names)}")
    return name
