"""The single kernels of an op, timed as the op launches them: the launches of one call, sorted by kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from tiller.kernels import steerer

from .contenders import Contender, Kernels

KERNELS = ("edit", "encode", "select", "gather", "finish")


class Stage(Contender):
    """One kernel of `kernels`, behind a call that left the buffers as it finds them in the op."""

    def __init__(self, kernels: Kernels, name: str, launches: list[Any]) -> None:
        super().__init__(kernels.work)
        self.kernels, self.name, self.calls = kernels, name, launches
        self.launches = kernels.launches

    def prepare(self) -> None:
        """`edit` fills the queue, the others read it; `edit` and `finish` write the stream."""
        if self.name == "edit":
            self.kernels.prepare()
        elif self.name == "finish":
            self.kernels.restore()

    def run(self) -> Tensor:
        for kernel, grid, args, kwargs in self.calls:
            kernel[grid](*args, **kwargs)
        return self.kernels.streams[0][1]


def stages(kernels: Kernels, names: list[str]) -> dict[str, Stage]:
    """Each of the kernels `names`, in the state that a whole call leaves."""
    kernels.prepare()
    with _recorded() as launches:
        kernels.run()
    return {name: Stage(kernels, name, [own for own in launches if own[0] is _kernel(name)]) for name in names}


class _Recorder:
    """Launches a kernel and notes it."""

    def __init__(self, kernel: Any, launches: list[Any]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            self.launches.append((self.kernel, grid, args, kwargs))
            self.kernel[grid](*args, **kwargs)

        return launch


def _kernel(name: str) -> Any:
    return getattr(steerer, f"{name}_kernel")


@contextmanager
def _recorded() -> Iterator[list[Any]]:
    """Inside it, launches by the launcher's module are noted in their order."""
    launches: list[Any] = []
    own = {f"{name}_kernel": _kernel(name) for name in KERNELS}
    for name, kernel in own.items():
        setattr(steerer, name, _Recorder(kernel, launches))
    try:
        yield launches
    finally:
        for name, kernel in own.items():
            setattr(steerer, name, kernel)
