"""Performs programs in tests: the test says how each effect is answered, and time stands still unless it moves it."""

from collections.abc import Callable
from typing import Any

from foedus import FoedusError
from foedus._core import effects


class Driver:
    """Runs one program step by step. `calls` answers unary calls; what it raises is thrown into the program."""

    def __init__(self, calls: Callable[[effects.Call], Any] | None = None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.made: list[effects.Call] = []
        self.told: list[tuple[Any, ...]] = []
        self._calls = calls

    def run(self, program: effects.Program[Any], until: type | tuple[type, ...] = ()) -> Any:
        """Runs a program to its end and answers what it returns, or to an effect of a type, which it answers."""
        self.program = program
        return self.go_on(None, until)

    def go_on(self, answer: Any, until: type | tuple[type, ...] = ()) -> Any:
        error: BaseException | None = answer if isinstance(answer, BaseException) else None
        while True:
            try:
                effect = self.program.send(answer) if error is None else self.program.throw(error)
            except StopIteration as stop:
                return stop.value
            if isinstance(effect, until):
                return effect
            answer, error = None, None
            try:
                answer = self._perform(effect)
            except FoedusError as failed:
                error = failed

    def _perform(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.Call():
                self.made.append(effect)
                assert self._calls is not None
                return self._calls(effect)
            case effects.Now():
                return self.now
            case effects.Sleep(seconds):
                self.slept.append(seconds)
                self.now += seconds
                return None
            case effects.Exclusively(program, _):
                inner = Driver(self._calls)
                inner.now, inner.slept, inner.made, inner.told = self.now, self.slept, self.made, self.told
                answer = inner.run(program)
                self.now = inner.now
                return answer
            case effects.Explain(error, _):
                return error
            case effects.Tell(callback, arguments):
                callback(*arguments)
                return None
            case effects.Shut() | effects.Open() | effects.Start():
                return None
        raise AssertionError(f"the test does not answer {effect}")
