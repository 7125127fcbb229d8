"The check of an exercise: silent on one that nobody has begun, strict with every other."
import pytest

from unet_course.support.exercises import exercise, has_dots


def untouched(x):
    y = 0
    ...
    return y


def half_done(x):
    y = ...
    return 2 * x


def answered(x):
    return x[..., 0]  # ... these dots are an answer


class Untouched:
    def __init__(self): self.x = 1

    def forward(self, x):
        ...


class Answered:
    def forward(self, x): return x


@pytest.mark.parametrize('answer, dots', [(untouched, True), (half_done, True), (answered, False), (Untouched, True), (Answered, False), (..., True), (3, False), (max, False), (int, False)])
def test_dots_are_found_in_functions_classes_and_values(answer, dots): assert has_dots(answer) == dots


def test_a_check_lets_the_untouched_pass_by_and_raises_on_what_is_wrong():
    @exercise
    def check_twice(answer):
        "Returns a line, or raises."
        assert answer(3) == 6, f'yours {answer(3)}, expected 6'
        return 'right'

    assert 'not answered yet' in check_twice(untouched) and check_twice(lambda x: 2 * x) == 'right'
    with pytest.raises(AssertionError, match='yours 9, expected 6'): check_twice(lambda x: x * x)
    with pytest.raises(AssertionError, match='yours 0, expected 6'): check_twice.__wrapped__(untouched)
    assert check_twice.__name__ == 'check_twice' and check_twice.__doc__


def test_a_notebook_shows_what_is_wrong_in_one_line_and_a_fault_in_the_answer_whole():
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    shell = InteractiveShell.instance()
    shell.run_cell("from unet_course.support.exercises import exercise\n@exercise\ndef check(answer):\n    assert answer(3) == 6, f'yours {answer(3)}, expected 6'")
    with capture_output() as wrong: result = shell.run_cell('check(lambda x: x + 1)')
    assert isinstance(result.error_in_exec, AssertionError) and wrong.stdout.strip() == 'not right yet: yours 4, expected 6'
    with capture_output() as broken: shell.run_cell('check(lambda x: x / 0)')
    assert 'ZeroDivisionError' in broken.stdout and 'Traceback' in broken.stdout
