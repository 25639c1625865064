"""Networks of skorch that Ctrl-C ends, and that stop early all the same.

skorch takes a KeyboardInterrupt for the end of training and goes on, and its own early stopping raises one. A network
that a user has interrupted would be passed on as if it were trained. This file needs torch.
"""

from typing import Any

from skorch.callbacks import EarlyStopping

__all__ = ["Interruptible", "StopEarly"]


class StopEarly(EarlyStopping):
    """skorch's early stopping, which can be told from Ctrl-C."""

    def on_epoch_end(self, net: Any, **kwargs) -> None:
        """Stop when the score has not improved for as many epochs as the patience."""
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt as stop:
            raise _Enough from stop


class Interruptible:
    """What a network derives from before skorch's, so that Ctrl-C ends the call as it ends any other."""

    def fit_loop(self, X: Any, y: Any = None, **kwargs) -> Any:
        """Train, and let Ctrl-C through to :meth:`fit`."""
        try:
            return super().fit_loop(X, y, **kwargs)
        except _Enough:
            raise
        except KeyboardInterrupt as interrupt:
            raise _Interrupted from interrupt

    def fit(self, X: Any, y: Any = None, **kwargs) -> Any:
        """Train from the beginning."""
        try:
            return super().fit(X, y, **kwargs)
        except _Interrupted as interrupted:
            raise KeyboardInterrupt from interrupted


class _Enough(KeyboardInterrupt):
    """The end of training that skorch expects."""


class _Interrupted(BaseException):
    """Ctrl-C under a name that skorch does not know."""
