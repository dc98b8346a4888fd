"""Signals as events: `Signals`.

What it does to the process, and why so, stands in docs/signal.md.
"""

import sys

if sys.platform == "win32":
    from metalio._sys.console_signals import Signals
else:
    from metalio._sys.unix_signals import Signals

__all__ = ["Signals"]
