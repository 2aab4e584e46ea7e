"""Numbers that are equal but for the time that passed meanwhile."""

SLACK = 15.0


class Near(float):
    """Equal to each number within `SLACK` of it."""

    def __eq__(self, other):
        if not isinstance(other, int | float):
            return NotImplemented
        return float(self) == float(other) or abs(float(self) - float(other)) <= SLACK

    def __ne__(self, other):
        return not self == other

    __hash__ = None

    def __repr__(self):
        return f'about {float(self):.0f}'


def near(seconds):
    return Near(seconds)
