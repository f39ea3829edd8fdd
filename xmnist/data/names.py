"""Classes by their names or numbers. No torch."""

from collections.abc import Sequence

from xmnist.runtime.errors import unknown


def class_number(word: str | int, classes: Sequence[str]) -> int:
    """Return the number of a class that is given by its name or number; a name wins over a number.

    Where a class is called by a number, numbers are names: 10 is class `10`, or `010`, and not the eleventh.

    Raises:
        InputError: there is no such class.
    """
    if str(word) in classes:
        return list(classes).index(str(word))
    spelled = [number for number, name in enumerate(classes) if name.isdecimal() and str(int(name)) == str(word)]
    if len(spelled) == 1:
        return spelled[0]
    numeric = any(name.isdecimal() and name != str(number) for number, name in enumerate(classes))
    if isinstance(word, int) and 0 <= word < len(classes) and not numeric:
        return word
    how = "classes, by name" if numeric else f"by name, or by number from 0 to {len(classes) - 1}"
    raise unknown("class", str(word), classes, how)
